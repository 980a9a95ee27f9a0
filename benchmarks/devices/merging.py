"""Merges by the runner on any device: every form of them, checked against numpy."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lorarar.artefacts.formats import FORMAT_OF, FORMATS, Dtype
from lorarar.artefacts.formats import Engine as Backend
from lorarar.artefacts.merger import INPUT_DTYPES
from lorarar.bases import BASES
from lorarar.benchmarks.devices import DEVICES, runner_engine
from lorarar.benchmarks.devices.bundle import add_runner
from lorarar.benchmarks.devices.device import OUTPUT, Choice, Device, Facts, Place
from lorarar.benchmarks.devices.measuring import PLACE_NOTES, Pace, Row, measure_on, times_of
from lorarar.benchmarks.forms import Cost, cost
from lorarar.benchmarks.machine import describe
from lorarar.benchmarks.report import Report
from lorarar.errors import LorararError
from lorarar.files import read_safetensors
from lorarar.hypernet import ROLES, Hypernet
from lorarar.lora import Lora
from lorarar.merge import Coefficients, coefficients
from lorarar.prepare import LEVELS, Level, prepare
from lorarar.runtime.native.build import Engine
from lorarar.save import save_lora
from lorarar.standin import standin_lora

FULL: dict[Dtype, Level] = {"fp32": "full-fp32", "fp16": "full-fp16", "int8": "full-int8"}
MERGED = ", factors merged"
RUNNER_NOTE = (
    "runner: the C++ program of runtime/native; coefficients from factored or prepared LoRAs, and "
    "with the factors merged. error: largest difference from numpy's coefficients, by layer."
)
STANDINS = (
    "LoRAs are seeded stand-ins and the hypernetwork is untrained; times do not depend on values."
)


def measure_elsewhere(
    choice: Choice,
    backends: list[Backend],
    *,
    base: str,
    rank: int,
    dtype: Dtype,
    rounds: int,
    pace: Pace,
) -> Report:
    """Measure the runner on a phone, or count what it does under emulation.

    Raises LorararError for a backend that is not the runner's, and as of `measure_merges`.
    """
    report = Report(
        benchmark="merge_latency",
        machine=describe(),
        settings={
            "backend": " ".join(backends),
            "base": base,
            "rank": rank,
            "threads": choice.threads,
            "dtype": dtype,
            "rounds": rounds,
        },
        notes=[RUNNER_NOTE, PLACE_NOTES[choice.name], STANDINS],
    )
    for backend in backends:
        rows, report.device = measure_merges(
            choice,
            runner_engine(backend),
            base=base,
            rank=rank,
            dtype=dtype,
            rounds=rounds,
            pace=pace,
        )
        report.rows += [row | {"name": f"{row['name']}, {backend}"} for row in rows]
    return report


def measure_merges(
    choice: Choice, engine: Engine, *, base: str, rank: int, dtype: Dtype, rounds: int, pace: Pace
) -> tuple[list[Row], Facts]:
    """Merge seeded stand-ins of a base by the runner on a device; see `run_merge` for the rows.

    Raises LorararError if a tool, the exporter or the device is missing, or if the runner fails.
    """
    device = DEVICES[choice.name]
    content, style = (standin_lora(base, rank, seed, INPUT_DTYPES[dtype]) for seed in (1, 2))
    hypernet = Hypernet.random(BASES[base].widths)
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder)
        add_runner(bundle, device.TARGET, engine)
        merger = export_merger(bundle, hypernet, engine, dtype)
        works = list(write_works(bundle, (content, style), hypernet, merger, dtype))
        with device.put(bundle, choice) as place:
            runs = [
                partial(run_merge, device, place, work, rounds=rounds, threads=choice.threads)
                for work in works
            ]
            return measure_on(device, place, choice.name, runs, pace)


@dataclass(frozen=True)
class MergeWork:
    """One form of a merge. files: merger, content and style, in the bundle; cost: by count;
    wanted: the coefficients that numpy gets of the same files."""

    name: str
    files: tuple[str, ...]
    cost: Cost
    wanted: Coefficients


def export_merger(bundle: Path, hypernet: Hypernet, engine: Engine, dtype: Dtype) -> str:
    """Export the hypernetwork into a bundle; return its file's name.

    Raises LorararError if the exporter is not installed.
    """
    from lorarar.export.exporters import export_hypernet

    name = FORMATS[FORMAT_OF[engine]].merger
    export_hypernet(FORMAT_OF[engine], hypernet, bundle / name, dtype)
    return name


def write_works(
    bundle: Path, pair: tuple[Lora, Lora], hypernet: Hypernet, merger: str, dtype: Dtype
) -> Iterator[MergeWork]:
    """Write a pair into a bundle in each form that a merger of this dtype takes, and yield these.

    merger: name of the exported hypernetwork's file there.
    """
    content, style = pair
    levels: tuple[Level | None, ...] = (None, "small", FULL[dtype])
    for level in levels:
        if level:
            kept = (
                prepare(content, hypernet, "content", level),
                prepare(style, hypernet, "style", level),
            )
            itemsize = LEVELS[level][1].itemsize
        else:
            kept, itemsize = pair, np.dtype(INPUT_DTYPES[dtype]).itemsize
        files = merger, *(f"{role}-{level or 'plain'}.safetensors" for role in ROLES)
        for lora, file in zip(kept, files[1:], strict=True):
            save_lora(lora, bundle / file)
        yield MergeWork(
            f"prepared, {level}" if level else "factored",
            files,
            cost(
                level.partition("-")[0] if level else "factored",
                *pair,
                hypernet=hypernet,
                itemsize=itemsize,
            ),
            coefficients(*kept, hypernet),
        )


def run_merge(
    device: Device, place: Place, work: MergeWork, *, rounds: int, threads: int
) -> list[Row]:
    """Run one form there: a row for its coefficients, and one for the whole merge.

    The coefficients are brought back and held against numpy's: their row's `error` is the largest
    difference over all layers, each by its largest coefficient.

    Raises LorararError if the runner fails or leaves out a layer.
    """
    words = ["merge", *work.files, "--rounds", str(rounds), "--threads", str(threads)]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, OUTPUT)
        predicted = device.run(
            place, [*words, "--only", "coefficients", "-o", OUTPUT, "--force"], output
        )
        error = largest_error(output, work.wanted)
    merged = device.run(place, [*words, "--only", "merge"])
    form = next(name for name in predicted.rows if name.startswith("coefficients"))
    coefficients, merge = predicted.rows[form], merged.rows["merge"]
    shared = {"gflop": work.cost.gflop, "gigabytes": work.cost.gigabytes}
    return [
        times_of(coefficients, f"runner, {work.name}", predicted) | shared | {"error": error},
        times_of(merge, f"runner, {work.name}{MERGED}", merged)
        | dict.fromkeys(shared)
        | {"error": None},
    ]


def largest_error(found: Path, wanted: Coefficients) -> float:
    """Compare a file of "<layer>.m" with what numpy gets.

    Raises LorararError if it lacks a layer or has others.
    """
    tensors, _ = read_safetensors(found)
    if tensors.keys() != {f"{name}.m" for name in wanted}:
        raise LorararError(f"the runner predicted {len(tensors)} layers, numpy {len(wanted)}")
    return max(
        float(np.abs(tensors[f"{name}.m"] - m).max() / np.abs(m).max())
        for name, m in wanted.items()
    )
