"""How long does a merge take? Every form of it in one interleaved run, on a base's true shapes.

python benchmarks/merge_latency.py --backend onnxruntime
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from threadpoolctl import threadpool_limits

from lorarar.artefacts.formats import FORMAT_OF, FORMATS, Dtype, Engine
from lorarar.artefacts.merger import INPUT_DTYPES
from lorarar.benchmarks.forms import Cost, cost, dense_coefficients
from lorarar.benchmarks.machine import describe, interleaved, measure_limits, peak_memory, spread
from lorarar.benchmarks.report import Report, make_console, publish
from lorarar.command import run_script
from lorarar.hypernet import Hypernet, load_hypernet
from lorarar.lora import Lora
from lorarar.merge_files import merge_files
from lorarar.prepare import LEVELS, Level, prepare
from lorarar.runtime import Merger, load_merger
from lorarar.standin import BaseName, standin_lora, write_standins

FULL: dict[Dtype, Level] = {"fp32": "full-fp32", "fp16": "full-fp16", "int8": "full-int8"}
DENSE = "dense, as published"
NOTES = [
    "dense: torch builds every dW of both LoRAs, then reads the predicted layers' columns through "
    "H; factored, prepared: coefficients on the backend; factors merged: with the merged up and "
    "down as arrays, on the first backend; file to file: two fp16 files in, one out, hashed and "
    "synced, by numpy.",
    "peak: most private memory above the inputs during one run (mapped files do not count).",
    "LoRAs are seeded stand-ins and the hypernetwork is untrained; times do not depend on values.",
]


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
        rate = (work.cost.gflop / seconds, work.cost.gigabytes / seconds) if work.cost else None
        report.rows.append(
            {"name": work.name}
            | spreads[work.name]
            | {
                "times_dense": spreads[DENSE]["median_ms"] / spreads[work.name]["median_ms"],
                "gflop": work.cost.gflop if work.cost else None,
                "gigabytes": work.cost.gigabytes if work.cost else None,
                "share_of_matmul": rate[0] / limits.gflop_per_second if rate else None,
                "share_of_memory": rate[1] / limits.gigabytes_per_second if rate else None,
                "peak_megabytes": peaks[work.name],
            }
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


def main(
    backend: Annotated[
        list[Engine],
        typer.Option(default_factory=lambda: ["onnxruntime"], help="may be given several times"),
    ],
    base: BaseName = "sdxl",
    rank: Annotated[int, typer.Option(min=1)] = 64,
    threads: Annotated[int, typer.Option(min=1)] = os.cpu_count() or 1,
    dtype: Annotated[Dtype, typer.Option(help="of the LoRAs and the artefact")] = "fp32",
    rounds: Annotated[int, typer.Option(min=1)] = 7,
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
    ziplora_steps: Annotated[int, typer.Option(min=0, help="ZipLoRA steps to time")] = 0,
    ziplora_latents: Annotated[int, typer.Option(min=8, help="its latents' side")] = 32,
) -> None:
    """Time the dense form, the factored and prepared forms, and file to file, in one run."""
    console = make_console()
    report = measure(
        backend,
        base=base,
        rank=rank,
        threads=threads,
        dtype=dtype,
        rounds=rounds,
        console=console,
    )
    if ziplora_steps:
        from lorarar.benchmarks.ziplora import add_ziplora

        add_ziplora(report, ziplora_steps, ziplora_latents)
    publish(report, console, json)


if __name__ == "__main__":
    run_script(main)
