"""No engine: numpy on a hypernetwork checkpoint. The reference for the others."""

from pathlib import Path

import numpy as np

from lorarar.hypernet import ROLES, load_hypernet
from lorarar.merger_format import Manifest
from lorarar.runtime.merger import Run


def load(path: Path, threads: int) -> tuple[Manifest, Run, int]:
    """Read a hypernetwork checkpoint."""
    hypernet = load_hypernet(path)
    manifest = Manifest.of(hypernet, "fp32")
    graphs = manifest.graphs()

    def run(graph: str, arrays: list[np.ndarray]) -> np.ndarray:
        form, width = graphs[graph]
        if form == "full":
            return hypernet.read_out(graph, width, arrays[0] + arrays[1])
        hidden = np.float32(0)
        for role, first, down in zip(ROLES, arrays[::2], arrays[1::2], strict=True):
            projected = hypernet.half(graph, width, role) @ first if form == "factored" else first
            hidden = hidden + projected @ down
        return hypernet.read_out(graph, width, hidden)

    return manifest, run, threads
