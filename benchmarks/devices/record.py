"""How many instructions merges and steps take, kept in instructions.json, so that a test can tell.

python -m lorarar.benchmarks.devices.record    counts again and replaces what is kept
"""

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from lorarar.artefacts.formats import Dtype
from lorarar.benchmarks.devices import choose
from lorarar.benchmarks.devices.drawing import measure_drawing
from lorarar.benchmarks.devices.emulated import CPU, qemu_version
from lorarar.benchmarks.devices.measuring import Pace, Row
from lorarar.benchmarks.devices.merging import measure_merges
from lorarar.benchmarks.pipeline_latency import PAIR, PROMPT, export_all
from lorarar.command import run_script
from lorarar.files import write_atomically
from lorarar.runtime.native.build import COMPILERS
from lorarar.runtime.native.tools import run

RECORD = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.02
BASE, RANK, ROUNDS = "mini", 8, 3
DTYPES: tuple[Dtype, ...] = ("fp32", "fp16", "int8")
DEVICE = choose("emulated-aarch64")
PACE = Pace(cool_down=0, sustained=0)
SETTINGS = {"cpu": CPU, "engine": "executorch", "base": BASE, "rank": RANK, "threads": 1}


def count_merges(dtype: Dtype) -> dict[str, int]:
    """Count the instructions of each form of a merge of the embedded base's stand-ins.

    Raises LorararError as of `measure_merges`.
    """
    rows, _ = measure_merges(
        DEVICE, "executorch", base=BASE, rank=RANK, dtype=dtype, rounds=ROUNDS, pace=PACE
    )
    return _counts(rows)


def count_steps(folder: Path) -> dict[str, int]:
    """Count those of the embedded model's parts; folder: exported for ExecuTorch in float32.

    Raises LorararError as of `measure_drawing`.
    """
    rows, _ = measure_drawing(DEVICE, folder, PAIR, PROMPT, steps=1, rounds=1, pace=PACE)
    return _counts(rows)


def _counts(rows: list[Row]) -> dict[str, int]:
    return {row["name"].removeprefix("runner, "): row["instructions"] for row in rows}


def versions() -> dict[str, str]:
    """What the counts depend on besides our own code."""
    compiler = run([COMPILERS["aarch64"], "-dumpfullversion"]).strip()
    return {"executorch": version("executorch"), "gcc": compiler, "qemu": qemu_version()}


def exceeding(kept: dict[str, int], counted: dict[str, int]) -> list[str]:
    """Say of what takes over TOLERANCE more than is kept, or is not kept at all.

    >>> exceeding({"factored": 100}, {"factored": 103})
    ['factored: 103 instructions, 3.0 % more than the 100 that are kept']
    """
    missing = [f"{name}: nothing is kept" for name in counted.keys() - kept.keys()]
    return sorted(missing) + [
        f"{name}: {count} instructions, {100 * (count / kept[name] - 1):.1f} % more than the "
        f"{kept[name]} that are kept"
        for name, count in counted.items()
        if name in kept and count > kept[name] * (1 + TOLERANCE)
    ]


def read_record() -> dict[str, Any]:
    record: dict[str, Any] = json.loads(RECORD.read_bytes())
    return record


def main(
    exports: Annotated[
        Path | None, typer.Option(help="folder of exports that is kept and used again")
    ] = None,
) -> None:
    """Count every form of a merge and the parts of a picture, and keep that (some ten minutes)."""
    with tempfile.TemporaryDirectory() as name, Console().status("exporting, emulating"):
        folder = export_all(exports or Path(name), ["executorch"])["executorch, none"]
        record = {
            "versions": versions(),
            "settings": SETTINGS,
            "merges": {dtype: count_merges(dtype) for dtype in DTYPES},
            "steps": count_steps(folder),
        }
    text = json.dumps(record, indent=1) + "\n"
    write_atomically(RECORD, lambda file: file.write(text.encode()), force=True)
    print(text, end="")


if __name__ == "__main__":
    run_script(main)
