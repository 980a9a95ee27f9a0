"""`lorarar demo`: two LoRA files into one, then the same through exported hypernetworks."""

import tempfile
import time
from importlib import import_module
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from lorarar.hypernet import load_hypernet
from lorarar.lora import load_lora
from lorarar.merge import Coefficients, coefficients
from lorarar.merge_files import merge_files
from lorarar.runtime import load_merger
from lorarar.standin import write_standins

EXPORTS = {  # the dtype that takes float16 files fastest on each (benchmarks/LOG.md)
    "onnxruntime": ("to_onnx", "merger.onnx", "fp16"),
    "executorch": ("to_executorch", "merger.pte", "fp32"),
}
RUNS = 5


def run_demo(base: str, rank: int, console: Console) -> None:
    """Merge two stand-ins from file to file, export to each format, and print one table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files, checkpoint = write_standins(folder, base, rank)
        console.print(f"stand-ins, random weights: {base}, rank {rank}, untrained hypernetwork")
        report = merge_files(*files, folder / "merged.safetensors", checkpoint)
        console.print(f"file to file: {report.layers} layers in {report.seconds * 1e3:.0f} ms")
        content, style = (load_lora(file, canonical_only=True) for file in files)
        hypernet = load_hypernet(checkpoint)
        wanted = coefficients(content, style, hypernet)
        table = Table("engine", "artefact", "coefficients, median ms", "largest difference")
        milliseconds = _median_milliseconds(lambda: coefficients(content, style, hypernet))
        table.add_row("numpy", checkpoint.name, f"{milliseconds:.0f}", "-")
        for backend, (module, artefact, dtype) in EXPORTS.items():
            console.print(f"exporting {artefact}, {dtype}")
            exporter = import_module(f"lorarar.export.{module}")
            exporter.export_hypernet(hypernet, folder / artefact, dtype)
            merger = load_merger(folder / artefact, backend)
            difference = _largest_difference(merger.coefficients(content, style), wanted)
            milliseconds = _median_milliseconds(
                lambda merger=merger: merger.coefficients(content, style)
            )
            table.add_row(
                backend, f"{artefact}, {dtype}", f"{milliseconds:.0f}", f"{difference:.1e}"
            )
        console.print(table)


def _median_milliseconds(work) -> float:
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1e3)
    return median(times)


def _largest_difference(found: Coefficients, wanted: Coefficients) -> float:
    return max(float(np.abs(found[name] - m).max()) for name, m in wanted.items())
