"""torch, eager, on a hypernetwork checkpoint: what the exports are compared with."""

import warnings
from pathlib import Path

import numpy as np
import torch

from lorarar.artefacts.merger import MergerManifest
from lorarar.hypernet import ROLES, load_hypernet
from lorarar.runtime.backends import RunGraph

# Mapped files are read-only; nothing is written to tensors made of them.
warnings.filterwarnings("ignore", "The given NumPy array is not writable")


def load(path: Path, threads: int) -> tuple[MergerManifest, RunGraph, int]:
    """Read a hypernetwork checkpoint (.safetensors or .pth)."""
    hypernet = load_hypernet(path)
    manifest = MergerManifest.of(hypernet, "fp32")
    graphs = manifest.graphs()
    weights = {
        width: (
            [as_tensor(hypernet.half("input", width, role)) for role in ROLES],
            as_tensor(bias)[:, None],
        )
        for width, (_, bias) in hypernet.inputs.items()
    }
    out_weight, out_bias = map(as_tensor, hypernet.output)

    @torch.inference_mode()
    def run(graph: str, arrays: list[np.ndarray]) -> np.ndarray:
        torch.set_num_threads(1)  # layers run side by side; new threads would take torch's default
        form, width = graphs[graph]
        halves, bias = weights[width]
        tensors = [as_tensor(array) for array in arrays]
        if form == "full":
            hidden = tensors[0] + tensors[1]
        else:
            first, second = tensors[::2], tensors[1::2]
            if form == "factored":
                first = [half @ up for half, up in zip(halves, first, strict=True)]
            hidden = torch.addmm(first[0] @ second[0], first[1], second[1])
        hidden = hidden.add_(bias).relu_()
        m: np.ndarray = torch.addmm(out_bias[:, None], out_weight, hidden).numpy()
        return m

    return manifest, run, threads


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """Return a tensor on the array's memory, for an engine that does not write to it."""
    return torch.from_numpy(array)
