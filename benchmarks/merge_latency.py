"""How long does a merge take? Every form of it in one interleaved run, on a base's true shapes.

python benchmarks/merge_latency.py --backend onnxruntime
python benchmarks/merge_latency.py --device emulated-aarch64 --backend executorch
python benchmarks/merge_latency.py --device adb --backend executorch
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import typer
from rich.console import Console
from threadpoolctl import threadpool_limits

from lorarar.artefacts.formats import ENGINES, FORMAT_OF, FORMATS, Dtype, Engine
from lorarar.artefacts.merger import INPUT_DTYPES
from lorarar.benchmarks.devices import RUNNERS, choose
from lorarar.benchmarks.devices.device import Choice
from lorarar.benchmarks.devices.measuring import Pace
from lorarar.benchmarks.devices.merging import FULL, STANDINS, measure_elsewhere, measure_merges
from lorarar.benchmarks.devices.options import CoolDown, Cores, DeviceText, Sustained
from lorarar.benchmarks.forms import Cost, cost, dense_coefficients
from lorarar.benchmarks.machine import (
    Limits,
    describe,
    interleaved,
    measure_limits,
    peak_memory,
    spread,
)
from lorarar.benchmarks.report import Report, make_console, publish
from lorarar.command import run_script
from lorarar.errors import LorararError
from lorarar.hypernet import Hypernet, load_hypernet
from lorarar.lora import Lora
from lorarar.merge_files import merge_files
from lorarar.prepare import LEVELS, Level, prepare
from lorarar.runtime import Merger, load_merger
from lorarar.standin import BaseName, standin_lora, write_standins

DENSE = "dense, as published"
NOTES = [
    "dense: torch builds every dW of both LoRAs, then reads the predicted layers' columns through "
    "H; factored, prepared: coefficients on the backend; factors merged: with the merged up and "
    "down as arrays, on the first backend; file to file: two fp16 files in, one out, hashed and "
    "synced, by numpy.",
    "peak: most private memory above the inputs during one run (mapped files do not count).",
    "runner: the C++ program of runtime/native in a process of its own; its peak is the process's.",
    STANDINS,
]
LIMITS = "gflop_per_second", "gigabytes_per_second"


@dataclass(frozen=True)
class Work:
    name: str
    run: Callable[[], object]
    cost: Cost | None = None


def measure(
    backends: list[Engine],
    *,
    base: str,
    rank: int,
    threads: int,
    dtype: Dtype,
    rounds: int,
    console: Console,
) -> Report:
    """Time every form, interleaved, after one run of each for its memory and to warm up."""
    with (
        threadpool_limits(threads),
        tempfile.TemporaryDirectory() as folder,
        console.status("writing stand-ins, exporting the hypernetwork") as status,
    ):
        works = list(_works(backends, base, rank, threads, dtype=dtype, folder=Path(folder)))
        limits = measure_limits()
        peaks = {}
        for work in works:
            status.update(f"memory: {work.name}")
            with peak_memory() as peak:
                work.run()
            peaks[work.name] = peak.megabytes
        times = interleaved({work.name: work.run for work in works}, rounds, status.update)
    spreads = {name: spread(measured) for name, measured in times.items()}
    report = Report(
        benchmark="merge_latency",
        machine=describe() | {key: round(value, 1) for key, value in asdict(limits).items()},
        settings={
            "backend": " ".join(backends),
            "base": base,
            "rank": rank,
            "threads": threads,
            "dtype": dtype,
            "rounds": rounds,
        },
        notes=list(NOTES),
    )
    for work in works:
        seconds = spreads[work.name]["median_ms"] / 1e3
        gflop, gigabytes = (work.cost.gflop, work.cost.gigabytes) if work.cost else (None, None)
        report.rows.append(
            {"name": work.name}
            | spreads[work.name]
            | {
                "times_dense": spreads[DENSE]["median_ms"] / spreads[work.name]["median_ms"],
                "gflop": gflop,
                "gigabytes": gigabytes,
            }
            | shares(gflop, gigabytes, seconds, limits)
            | {"peak_megabytes": peaks[work.name]}
        )
    return report


def _works(
    backends: list[Engine], base: str, rank: int, threads: int, *, dtype: Dtype, folder: Path
) -> Iterator[Work]:
    """Yield the works from the least memory to the most, as the allocator keeps what it had."""
    files, hypernet_file = write_standins(folder, base, rank)
    hypernet = load_hypernet(hypernet_file)
    mergers = {
        name: open_merger(name, hypernet, hypernet_file, dtype=dtype, threads=threads)
        for name in backends
    }
    out = folder / "merged.safetensors"
    yield Work("file to file", lambda: merge_files(*files, out, hypernet=hypernet_file, force=True))
    yield Work("copy of the same bytes", lambda: copy_durably(*files))

    content, style = (standin_lora(base, rank, seed, INPUT_DTYPES[dtype]) for seed in (1, 2))
    pair = (content, style)
    levels: tuple[Level, ...] = (FULL[dtype], "small")
    for level in levels:
        prepared = (
            prepare(content, hypernet, "content", level),
            prepare(style, hypernet, "style", level),
        )
        count = cost(
            level.partition("-")[0],
            *pair,
            hypernet=hypernet,
            itemsize=LEVELS[level][1].itemsize,
        )
        for name, merger in mergers.items():
            run = partial(merger.coefficients, *prepared)
            yield Work(f"prepared, {level}, {name}", run, count)
    itemsize = np.dtype(INPUT_DTYPES[dtype]).itemsize
    for name, merger in mergers.items():
        run = partial(merger.coefficients, *pair)
        yield Work(
            f"factored, {name}", run, cost("factored", *pair, hypernet=hypernet, itemsize=itemsize)
        )
    merger = mergers[backends[0]]
    yield Work("factored, factors merged", lambda: _materialised(merger.merge(*pair)))
    yield Work(
        DENSE,
        lambda: dense_coefficients(*pair, hypernet, threads),
        cost("dense", *pair, hypernet=hypernet, itemsize=itemsize),
    )


def open_merger(
    backend: Engine, hypernet: Hypernet, checkpoint: Path, *, dtype: Dtype, threads: int
) -> Merger:
    """Export the hypernetwork beside its checkpoint for the backend, if it needs that."""
    name = FORMAT_OF.get(backend)
    if name is None:
        return load_merger(checkpoint, backend, threads)
    from lorarar.export.exporters import export_hypernet

    path = checkpoint.with_name(FORMATS[name].merger)
    if not path.exists():  # for another engine of the format
        export_hypernet(name, hypernet, path, dtype)
    return load_merger(path, backend, threads)


def copy_durably(*files: Path) -> None:
    """Copy, sync and rename, as a merged file is written."""
    for file in files:
        part = file.with_suffix(".part")
        with file.open("rb") as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        part.replace(file.with_suffix(".copy"))


def _materialised(lora: Lora) -> list[np.ndarray]:
    return [np.asarray(factor) for layer in lora.layers.values() for factor in layer[:2]]


def add_runner_rows(report: Report, backends: list[Engine]) -> None:
    """Add what the runner takes on this machine, or a note that says what it lacks."""
    settings, limits = report.settings, Limits(**{key: report.machine[key] for key in LIMITS})
    dense = next(row["median_ms"] for row in report.rows if row["name"] == DENSE)
    for engine in (name for name in RUNNERS if name in backends):
        try:
            rows, report.device = measure_merges(
                Choice("host", threads=settings["threads"]),
                engine,
                base=settings["base"],
                rank=settings["rank"],
                dtype=settings["dtype"],
                rounds=settings["rounds"],
                pace=Pace(cool_down=0, sustained=0),
            )
        except LorararError as error:
            report.notes.append(f"the runner on {engine}: left out ({error})")
            continue
        for row in rows:
            known = {key: row.get(key) for key in report.rows[0]}
            report.rows.append(
                known
                | {
                    "name": f"{row['name']}, {engine}",
                    "times_dense": dense / row["median_ms"],
                }
                | shares(row["gflop"], row["gigabytes"], row["median_ms"] / 1e3, limits)
            )


def shares(
    gflop: float | None, gigabytes: float | None, seconds: float, limits: Limits
) -> dict[str, float | None]:
    """What was done in this time, as shares of the machine's limits; None where none is counted."""
    return {
        "share_of_matmul": gflop and gflop / seconds / limits.gflop_per_second,
        "share_of_memory": gigabytes and gigabytes / seconds / limits.gigabytes_per_second,
    }


def main(
    backend: Annotated[
        list[str],  # typer knows no list of a Literal
        typer.Option(
            default_factory=lambda: ["onnxruntime"],
            help=f"one of {', '.join(ENGINES)}; may be given several times",
        ),
    ],
    device: DeviceText = "host",
    base: Annotated[
        BaseName | None, typer.Option(help="default: sdxl, where emulated mini")
    ] = None,
    rank: Annotated[int, typer.Option(min=1)] = 64,
    threads: Annotated[
        int | None, typer.Option(min=1, help="default: all cores, on other devices 1")
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="of the LoRAs and the artefact")] = "fp32",
    rounds: Annotated[int, typer.Option(min=1)] = 7,
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
    cores: Cores = None,
    cool_down: CoolDown = 20.0,
    sustained: Sustained = 60.0,
    ziplora_steps: Annotated[
        int, typer.Option(min=0, help="ZipLoRA steps to time, on the host")
    ] = 0,
    ziplora_latents: Annotated[int, typer.Option(min=8, help="its latents' side")] = 32,
) -> None:
    """Time the dense form, the factored and prepared forms, and file to file, in one run; on other
    devices the runner's forms."""
    backends = cast(list[Engine], backend)  # load_merger refuses others
    console = make_console()
    choice = choose(device, cores, threads or (os.cpu_count() or 1 if device == "host" else 1))
    if choice.name == "host":
        report = measure(
            backends,
            base=base or "sdxl",
            rank=rank,
            threads=choice.threads,
            dtype=dtype,
            rounds=rounds,
            console=console,
        )
        add_runner_rows(report, backends)
        if ziplora_steps:
            from lorarar.benchmarks.ziplora import add_ziplora

            add_ziplora(report, ziplora_steps, ziplora_latents)
    else:
        report = measure_elsewhere(
            choice,
            backends,
            base=base or ("mini" if choice.name == "emulated-aarch64" else "sdxl"),
            rank=rank,
            dtype=dtype,
            rounds=rounds,
            pace=Pace(cool_down, sustained),
        )
    publish(report, console, json)


if __name__ == "__main__":
    run_script(main)
