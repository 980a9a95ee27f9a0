"""`lorarar demo`: held-out pairs of the small world, merged and drawn; then one on each engine."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from lorarar.embedded import HYPERNET, LORAS
from lorarar.generate import merged_into
from lorarar.hypernet import ROLES, Hypernet, load_hypernet
from lorarar.lora import Lora, load_lora
from lorarar.merge import Coefficients, coefficients
from lorarar.mini.world import SUBJECTS, describe
from lorarar.pipeline import draw, load_pipeline, put_lora
from lorarar.plot import plot_pictures
from lorarar.runtime import load_merger
from lorarar.training.manifest import load_manifest

METHODS = ("direct", "lorarar")
PLACE, SEED = "on grass", 0
EXPORTS = {  # the dtype that takes float16 files fastest on each (benchmarks/LOG.md)
    "onnxruntime": ("to_onnx", "merger.onnx", "fp16"),
    "executorch": ("to_executorch", "merger.pte", "fp32"),
}
RUNS = 5


def run_demo(output: Path, force: bool, console: Console) -> None:
    """Draw each held-out content LoRA with a held-out style LoRA, neither of them known to the
    hypernetwork, into one labelled picture, and print how long the merges take.

    Raises LorararError if `output` exists and is not to be replaced, or cannot be written.
    """
    manifest = load_manifest(LORAS)
    hypernet = load_hypernet(HYPERNET)
    pipeline = load_pipeline()
    held_out = (manifest.of(role, held_out=True) for role in ROLES)
    table = Table("content", "style", *(f"{method}, ms" for method in METHODS), "four pictures, s")
    rows = {}
    for pick in track([*zip(*held_out, strict=True)], "drawing", console=console, transient=True):
        names = [entry.name for entry in pick]
        pair = [load_lora(entry.file) for entry in pick]
        milliseconds, pictures, started = [], [], time.perf_counter()
        for lora, prompt in zip(pair, _prompts_alone(*names), strict=True):
            put_lora(pipeline, lora)
            pictures.append(draw(pipeline, [prompt], [SEED]))
        prompt = describe(f"{names[0]} {SUBJECTS[names[0]].kind}", PLACE, names[1])
        for method in METHODS:
            with merged_into(pipeline, pair[0], pair[1], method, hypernet=hypernet) as ready:
                pictures.append(draw(pipeline, [prompt], [SEED], **ready.arguments))
            milliseconds.append(ready.merge_seconds * 1e3)
        seconds = time.perf_counter() - started
        table.add_row(*names, *(f"{each:.1f}" for each in milliseconds), f"{seconds:.1f}")
        rows["\n".join(names)] = [each[0].permute(1, 2, 0).numpy() for each in pictures]
    plot_pictures(rows, ("content", "style", *METHODS), output, force)
    console.print(table)
    console.print(_on_each_engine(pair[0], pair[1], hypernet))
    console.print(f"{output.resolve()}: held-out pairs, drawn", soft_wrap=True, highlight=False)


def _prompts_alone(content: str, style: str) -> tuple[str, str]:
    kind = SUBJECTS[content].kind
    return describe(f"{content} {kind}", PLACE), describe(f"red {kind}", PLACE, style)


def _on_each_engine(content: Lora, style: Lora, hypernet: Hypernet) -> Table:
    """Export the hypernetwork to each format and let each engine predict the coefficients."""
    table = Table("engine", "artefact", "coefficients, median ms", "largest difference")
    wanted = coefficients(content, style, hypernet)
    milliseconds = _median_milliseconds(partial(coefficients, content, style, hypernet))
    table.add_row("numpy", "hypernet.safetensors", f"{milliseconds:.1f}", "-")
    with tempfile.TemporaryDirectory() as folder:
        for backend, (module, artefact, dtype) in EXPORTS.items():
            exporter = import_module(f"lorarar.export.{module}")
            exporter.export_hypernet(hypernet, Path(folder, artefact), dtype)
            merger = load_merger(Path(folder, artefact), backend)
            difference = _largest_difference(merger.coefficients(content, style), wanted)
            milliseconds = _median_milliseconds(partial(merger.coefficients, content, style))
            table.add_row(
                backend, f"{artefact}, {dtype}", f"{milliseconds:.1f}", f"{difference:.1e}"
            )
    return table


def _median_milliseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1e3)
    return median(times)


def _largest_difference(found: Coefficients, wanted: Coefficients) -> float:
    return max(float(np.abs(found[name] - m).max()) for name, m in wanted.items())
