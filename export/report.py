"""What the hypernetwork's exporters share: checking that an artefact is right, reporting it."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from lorarar.artefacts.merger import Form, MergerManifest
from lorarar.command import console
from lorarar.errors import LorararError
from lorarar.export import tolerances
from lorarar.export.merge_graphs import example_inputs
from lorarar.hypernet import ROLES, Hypernet
from lorarar.numeric import widen
from lorarar.runtime.backends import RunGraph

TIMED_RUNS = 20


@dataclass(frozen=True)
class GraphReport:
    """One graph of an artefact: error relative to numpy float32, median milliseconds of a run."""

    name: str
    error: float
    milliseconds: float


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """An exported hypernetwork.

    graphs is empty where the format cannot be run on this machine; note says so.
    """

    path: Path
    megabytes: float
    seconds: float
    graphs: list[GraphReport]
    note: str = ""


def expected(hypernet: Hypernet, form: Form, width: int, side_inputs: list[list]) -> np.ndarray:
    """Compute m, (2, in) float32, from a graph's inputs by numpy."""
    features = []
    for role, (first, *rest) in zip(ROLES, side_inputs, strict=True):
        feature = widen(first)
        if form == "factored":
            feature = hypernet.half(form, width, role) @ feature
        if form != "full":
            feature = feature @ widen(rest[0])
        elif rest:
            feature = feature * rest[0]
        features.append(feature)
    return hypernet.read_out(form, width, features[0] + features[1])


def verify(
    run: RunGraph, hypernet: Hypernet, manifest: MergerManifest, path: Path
) -> list[GraphReport]:
    """Run each graph on drawn inputs of unequal ranks and compare it with numpy.

    Raises LorararError if an error exceeds the dtype's tolerance.
    """
    reports = []
    for name, (form, width) in manifest.graphs().items():
        arrays = example_inputs(manifest, form, width, seed=1)
        half = len(arrays) // 2
        wanted = expected(hypernet, form, width, [arrays[:half], arrays[half:]])
        error = float(np.linalg.norm(run(name, arrays) - wanted) / np.linalg.norm(wanted))
        tolerance = tolerances.HYPERNET[manifest.dtype]
        if not error < tolerance:
            raise LorararError(
                f"{path}: graph '{name}' differs from numpy by {error:.1e}, more than "
                f"{tolerance:.0e} for {manifest.dtype}; nothing was written"
            )
        reports.append(GraphReport(name, error, _milliseconds(run, name, arrays)))
    return reports


def _milliseconds(run: RunGraph, name: str, arrays: list[np.ndarray]) -> float:
    times = []
    for _ in range(TIMED_RUNS):
        started = time.perf_counter()
        run(name, arrays)
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e3


def size_in_megabytes(path: Path) -> float:
    """Return the size of a file, or of all files below a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def show(report: ExportReport) -> None:
    """Print a table of the graphs, the size and the time."""
    if report.graphs:
        table = Table("graph", "relative error", "median ms")
        for graph in report.graphs:
            table.add_row(graph.name, f"{graph.error:.1e}", f"{graph.milliseconds:.3f}")
        console.print(table)
    console.print(f"{report.path}: {report.megabytes:.2f} MB, exported in {report.seconds:.1f} s")
    if report.note:
        console.print(report.note)
