"""How do a merge's time and memory grow? With rank, width, layers, and LoRAs that are stored.

python benchmarks/scaling.py
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from threadpoolctl import threadpool_limits

from lorarar.artefacts.formats import Engine
from lorarar.bases import PROJECTIONS, SHAPES, Shape
from lorarar.benchmarks.machine import describe, interleaved, measure_limits, peak_memory, spread
from lorarar.benchmarks.merge_latency import open_merger
from lorarar.benchmarks.report import Report, make_console, publish
from lorarar.command import run_script
from lorarar.hypernet import ROLES, Hypernet, save_hypernet
from lorarar.lora import Lora
from lorarar.prepare import Level, prepare
from lorarar.runtime import Merger
from lorarar.standin import standin_layers

RANK = 64  # where something else varies
RANKS = 4, 16, 64, 256
WIDTHS = 320, 640, 1280, 3072
BLOCKS = 16  # of attention, at each width
BASES = "koala-700m", "koala-1b", "ssd-1b", "sdxl"
STORED = 2, 10, 30, 100
STORED_BASE, STORED_RANK = "koala-700m", 16  # so that 100 fit into 3 GB
NOTES = [
    "rank: SDXL. layers: the attention projections of KOALA-700M, KOALA-1B, SSD-1B and SDXL, rank "
    "64. width: 16 made-up blocks of self-attention of one width, rank 64 (SD 1.5 has 320 to 1280, "
    "SDXL 640 and 1280, FLUX.1 3072).",
    "stored LoRAs: half of them content, half style, of KOALA-700M at rank 16; each round merges "
    "a pair of them drawn with a seed.",
    "A merge gives coefficients, from float16 LoRAs in memory. held: LoRAs and what is prepared; "
    "peak: most private memory above that during one merge.",
    "LoRAs are seeded stand-ins and hypernetworks are untrained; times do not depend on values.",
]
Opened = Callable[[Hypernet], Merger]


@dataclass(frozen=True)
class Work:
    """One point of one curve. held: bytes at hand; run: one merge."""

    varies: str
    form: str
    value: int
    held: int
    run: Callable[[], object]

    @property
    def name(self) -> str:
        return f"{self.form}, {self.varies} {self.value}"


def by_rank(opened: Opened) -> Iterator[Work]:
    hypernet = Hypernet.random()
    merger = opened(hypernet)
    for rank in RANKS:
        yield from pair_works("rank", rank, merger, hypernet, pair=pair_of(SHAPES["sdxl"], rank))


def by_width(opened: Opened) -> Iterator[Work]:
    hypernet = Hypernet.random(WIDTHS)
    merger = opened(hypernet)
    for width in WIDTHS:
        pair = pair_of(square_shapes(width), RANK)
        yield from pair_works("width", width, merger, hypernet, pair=pair)


def by_layers(opened: Opened) -> Iterator[Work]:
    hypernet = Hypernet.random()
    merger = opened(hypernet)
    for base in BASES:
        shapes = SHAPES[base]
        yield from pair_works("layers", len(shapes), merger, hypernet, pair=pair_of(shapes, RANK))


def by_stored(opened: Opened) -> Iterator[Work]:
    hypernet = Hypernet.random()
    merger = opened(hypernet)
    loras = [made(SHAPES[STORED_BASE], STORED_RANK, seed) for seed in range(max(STORED))]
    prepared = [
        prepare(lora, hypernet, ROLES[index % 2], "full-int8") for index, lora in enumerate(loras)
    ]
    for form, stored in (("factored", loras), ("prepared, full-int8", prepared)):
        for count in STORED:
            pairs = drawn_pairs(stored[:count])
            held = sum(map(held_bytes, stored[:count]))
            yield Work("stored LoRAs", form, count, held, partial(merge_next, merger, pairs))


AXES = by_rank, by_width, by_layers, by_stored


def pair_works(
    varies: str, value: int, merger: Merger, hypernet: Hypernet, *, pair: list[Lora]
) -> Iterator[Work]:
    """Merge one pair in its plain and its prepared forms."""
    levels: tuple[Level, ...] = ("small", "full-fp16")
    forms = {"factored": pair} | {
        f"prepared, {level}": [
            prepare(lora, hypernet, role, level) for lora, role in zip(pair, ROLES, strict=True)
        ]
        for level in levels
    }
    for form, loras in forms.items():
        held = sum(map(held_bytes, loras))
        yield Work(varies, form, value, held, partial(merger.coefficients, *loras))


def square_shapes(width: int) -> dict[str, Shape]:
    """Self-attention's four projections in each of `BLOCKS` blocks."""
    return {
        f"blocks.{block}.attn1.{projection}": (width, width)
        for block in range(BLOCKS)
        for projection in PROJECTIONS
    }


def pair_of(shapes: Mapping[str, Shape], rank: int) -> list[Lora]:
    return [made(shapes, rank, seed) for seed in (1, 2)]


def made(shapes: Mapping[str, Shape], rank: int, seed: int) -> Lora:
    return Lora(standin_layers(shapes, rank, seed))


def held_bytes(lora: Lora) -> int:
    """Count the bytes of factors and features."""
    arrays = [np.asarray(factor) for layer in lora.layers.values() for factor in layer[:2]]
    if lora.prepared:
        kept = lora.prepared.features.values()
        arrays += [array for feature in kept for array in feature if array is not None]
    return sum(array.nbytes for array in arrays)


def drawn_pairs(loras: list[Lora]) -> Iterator[tuple[Lora, Lora]]:
    """Draw a content and a style LoRA, which take turns in the list, again and again."""
    generator = np.random.default_rng(0)
    contents, styles = loras[::2], loras[1::2]
    while True:
        first, second = generator.integers(len(loras) // 2, size=2)
        yield contents[first], styles[second]


def merge_next(merger: Merger, pairs: Iterator[tuple[Lora, Lora]]) -> object:
    return merger.coefficients(*next(pairs))


def measure(backend: Engine, *, threads: int, rounds: int, console: Console) -> Report:
    """Measure one axis after another, so that only one's LoRAs are in memory."""
    report = Report(
        benchmark="scaling",
        machine=describe(),
        settings={"backend": backend, "threads": threads, "dtype": "fp16", "rounds": rounds},
        notes=list(NOTES),
    )
    with (
        threadpool_limits(threads),
        tempfile.TemporaryDirectory() as folder,
        console.status("measuring the machine") as status,
    ):
        limits = asdict(measure_limits())
        report.machine |= {key: round(value, 1) for key, value in limits.items()}

        def opened(hypernet: Hypernet) -> Merger:
            path = Path(tempfile.mkdtemp(dir=folder), "hypernet.safetensors")
            save_hypernet(hypernet, path)
            return open_merger(backend, hypernet, path, dtype="fp16", threads=threads)

        for axis in AXES:
            status.update(f"making stand-ins: {axis.__name__.replace('_', ' ')}")
            report.rows += _rows(list(axis(opened)), rounds, status.update)
    return report


def _rows(works: list[Work], rounds: int, progress: Callable[[str], None]) -> list[dict]:
    peaks = {}
    for work in works:
        progress(f"memory: {work.name}")
        work.run()  # what a first call makes for all later ones is not this work's
        with peak_memory() as peak:
            work.run()
        peaks[work.name] = peak.megabytes
    times = interleaved({work.name: work.run for work in works}, rounds, progress)
    return [
        {"name": work.name, "varies": work.varies, "form": work.form, "value": work.value}
        | spread(times[work.name])
        | {"held_megabytes": work.held / 1e6, "peak_megabytes": peaks[work.name]}
        for work in works
    ]


def main(
    backend: Annotated[Engine, typer.Option(help="that merges")] = "numpy",
    threads: Annotated[int, typer.Option(min=1)] = os.cpu_count() or 1,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
) -> None:
    """Time merges of growing rank, width, number of layers and of stored LoRAs."""
    console = make_console()
    report = measure(backend, threads=threads, rounds=rounds, console=console)
    publish(report, console, json)


if __name__ == "__main__":
    run_script(main)
