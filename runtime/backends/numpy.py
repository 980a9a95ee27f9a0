"""No engine: numpy on a hypernetwork checkpoint. The reference for the others."""

from pathlib import Path

import numpy as np

from lorarar.artefacts.merger import MergerManifest
from lorarar.hypernet import ROLES, load_hypernet
from lorarar.runtime.backends import RunGraph


def load(path: Path, threads: int) -> tuple[MergerManifest, RunGraph, int]:
    """Read a hypernetwork checkpoint."""
    hypernet = load_hypernet(path)
    manifest = MergerManifest.of(hypernet, "fp32")
    graphs = manifest.graphs()

    def run(graph: str, arrays: list[np.ndarray]) -> np.ndarray:
        form, width = graphs[graph]
        if form == "full":
            return hypernet.read_out(graph, width, arrays[0] + arrays[1])
        projected = arrays[::2]
        if form == "factored":
            halves = [hypernet.half(graph, width, role) for role in ROLES]
            projected = [half @ up for half, up in zip(halves, projected, strict=True)]
        hidden = projected[0] @ arrays[1]
        hidden += projected[1] @ arrays[3]
        return hypernet.read_out(graph, width, hidden)

    return manifest, run, threads
