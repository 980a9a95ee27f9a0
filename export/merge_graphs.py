"""The hypernetwork as torch modules, one per form and width, ready to be exported."""

from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from lorarar.artefacts.formats import LARGEST_RANK, Dtype
from lorarar.artefacts.merger import Form, MergerManifest
from lorarar.hypernet import ROLES, Hypernet

EXAMPLE_RANKS = {"content": 6, "style": 5}
LARGEST_IN = 4096


class Weight(nn.Module):
    """A matrix kept as float32, float16, or int8 with one scale per row."""

    values: Tensor
    scale: Tensor | None

    def __init__(self, values: np.ndarray, dtype: Dtype):
        super().__init__()
        weight = torch.from_numpy(np.array(values, order="C"))  # a copy, as files are mapped
        if dtype == "int8":
            scale = weight.abs().amax(1, keepdim=True).clamp_min(1e-30) / 127
            self.register_buffer("values", (weight / scale).round().to(torch.int8))
            self.register_buffer("scale", scale)
        else:
            self.register_buffer("values", weight.half() if dtype == "fp16" else weight)
            self.scale = None

    def forward(self) -> Tensor:
        values = self.values.float()
        return values if self.scale is None else values * self.scale


class MergeGraph(nn.Module):
    """m = W_out @ relu(h_c + h_s + b) + b_out, (2, in) float32, from one form's inputs.

    Computed as W_out @ max(h_c + h_s, -b) + (W_out @ b + b_out), which saves adding b.
    Inputs and forms: see `lorarar.artefacts.merger`.
    """

    floor: Tensor
    out_weight: Tensor
    out_bias: Tensor

    def __init__(self, hypernet: Hypernet, form: Form, width: int, manifest: MergerManifest):
        super().__init__()
        self.form = form
        self.parts = len(manifest.side_inputs(form))
        weight, bias = hypernet.inputs[width]
        if form == "factored":
            halves = (weight[:, :width], weight[:, width:])
            self.halves = nn.ModuleList(Weight(half, manifest.dtype) for half in halves)
        out_weight, out_bias = hypernet.output
        shift = out_weight @ bias + out_bias
        self.register_buffer("floor", torch.from_numpy(-bias)[None, :, None])
        self.register_buffer("out_weight", torch.tensor(out_weight)[None])
        self.register_buffer("out_bias", torch.from_numpy(shift)[None, :, None])

    def forward(self, *inputs: Tensor) -> Tensor:
        content = self.feature(0, *inputs[: self.parts])
        style = self.feature(1, *inputs[self.parts :])
        hidden = torch.maximum(content + style, self.floor)
        return (torch.bmm(self.out_weight, hidden) + self.out_bias).flatten(0, 1)

    def feature(self, side: int, first: Tensor, second: Tensor | None = None) -> Tensor:
        """One side's half of the first layer, (1, hidden, in) float32.

        Batches of one, because XNNPACK takes products of two activations as bmm only.
        """
        first = _batch_of_one(first.float())
        if self.form == "factored":
            first = torch.bmm(_batch_of_one(self.halves[side]()), first)
        if second is None:
            return first
        return (
            first * second
            if self.form == "full"
            else torch.bmm(first, _batch_of_one(second.float()))
        )


class AllGraphs(nn.Module):
    """Every graph of an artefact, independent of each other: all inputs in, every m out."""

    def __init__(self, hypernet: Hypernet, manifest: MergerManifest):
        super().__init__()
        graphs = manifest.graphs().items()
        self.graphs = nn.ModuleDict(
            {name: MergeGraph(hypernet, form, width, manifest) for name, (form, width) in graphs}
        )
        self.inputs = [len(manifest.inputs(form)) for _, (form, _) in graphs]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        rest = iter(inputs)
        return tuple(
            graph(*islice(rest, count))
            for graph, count in zip(self.graphs.values(), self.inputs, strict=True)
        )


def _batch_of_one(matrix: Tensor) -> Tensor:
    return matrix.reshape(1, *matrix.shape)  # a view, where unsqueeze would copy in ExecuTorch


def example_inputs(
    manifest: MergerManifest, form: Form, width: int, seed: int = 0
) -> list[np.ndarray]:
    """Draw inputs of unequal ranks for tracing and checking a graph."""
    generator = np.random.default_rng(seed)
    arrays = []
    for role in ROLES:
        rank = EXAMPLE_RANKS[role]
        shapes = {
            "up": (width, rank),
            "projected": (manifest.hidden, rank),
            "down": (rank, width),
            "features": (manifest.hidden, width),
            "scales": (manifest.hidden, 1),
        }
        for part, dtype in manifest.side_inputs(form).items():
            drawn = generator.standard_normal(shapes[part])
            arrays.append((drawn * 40 if dtype == np.int8 else drawn).astype(dtype))
    return arrays


def dynamic_shapes(manifest: MergerManifest, name: str) -> list[dict[int, torch.export.Dim]]:
    """Map each of a graph's inputs, in order, to its dynamic dimensions (axis -> dimension)."""
    form, _ = manifest.graphs()[name]
    columns = torch.export.Dim(f"{name}_columns", min=2, max=LARGEST_IN)
    shapes: list[dict[int, torch.export.Dim]] = []
    for role in ROLES:
        rank = torch.export.Dim(f"{name}_rank_{role}", min=1, max=LARGEST_RANK)
        axes: dict[str, dict[int, torch.export.Dim]] = {
            "up": {1: rank},
            "projected": {1: rank},
            "down": {0: rank, 1: columns},
            "features": {1: columns},
            "scales": {},
        }
        shapes += [axes[part] for part in manifest.side_inputs(form)]
    return shapes


def export_graph(
    hypernet: Hypernet, name: str, manifest: MergerManifest
) -> torch.export.ExportedProgram:
    """Trace one graph with dynamic ranks and columns."""
    module = MergeGraph(hypernet, *manifest.graphs()[name], manifest)
    return _traced(module, [name], manifest)


def export_all_graphs(hypernet: Hypernet, manifest: MergerManifest) -> torch.export.ExportedProgram:
    """Trace every graph into one program, with dynamic ranks and columns."""
    return _traced(AllGraphs(hypernet, manifest), list(manifest.graphs()), manifest)


def _traced(
    module: nn.Module, names: list[str], manifest: MergerManifest
) -> torch.export.ExportedProgram:
    graphs = manifest.graphs()
    inputs = [array for name in names for array in example_inputs(manifest, *graphs[name])]
    shapes = [shape for name in names for shape in dynamic_shapes(manifest, name)]
    return torch.export.export(
        module.eval(),
        tuple(torch.from_numpy(array) for array in inputs),
        dynamic_shapes=(tuple(shapes),),
        strict=False,
    )
