"""Tracing a part to ONNX without its weights, and writing it with each weight as it is made."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript.optimizer import fold_constants, remove_unused_nodes
from torch._subclasses.fake_tensor import FakeTensor

from lorarar.artefacts.formats import LARGEST_RANK
from lorarar.errors import LorararError
from lorarar.export.factors import example_factors, factor_names, rank_axis
from lorarar.export.onnx.decompose import TRANSLATIONS, known_operators_kept
from lorarar.export.onnx.stored import Recipe
from lorarar.export.parts import Part
from lorarar.parallel import cores

OPSET = 21  # the first whose DequantizeLinear and Cast know all that is used here
DATA = "model.onnx_data"
IN_FLIGHT = 64 << 20  # bytes of tensors that are being made
FOLDED = 64  # bytes; what is larger is a weight, to be stored as it is


def trace(part: Part, factor_dtype: torch.dtype) -> ir.Model:
    """Trace a part, built under a FakeTensorMode, with its axes and its factors' ranks dynamic."""
    factors = list(factor_names(part.projections))
    arguments: tuple[Any, ...] = tuple(part.inputs.values())
    shapes: tuple[Any, ...] = tuple(_dynamic(part.axes[name]) for name in part.inputs)
    if factors:
        rank = torch.export.Dim("rank", min=1, max=LARGEST_RANK)
        arguments += (example_factors(part.projections, factor_dtype),)
        shapes += ([{rank_axis(name): rank} for name in factors],)
    with known_operators_kept():
        program = torch.onnx.export(
            torch.export.export(part.module, arguments, dynamic_shapes=shapes, strict=False),
            dynamo=True,
            verbose=False,
            optimize=False,  # it would look for the weights
            opset_version=OPSET,
            input_names=[*part.inputs, *factors],
            output_names=part.outputs,
            custom_translation_table=TRANSLATIONS,
        )
    assert program is not None  # the exporter's result without a file name
    return program.model


def _dynamic(axes: dict[int, str]) -> dict[int, Any]:
    """Latents are halved twice and doubled again, pictures become latents first; a batch of 64
    takes other code."""
    dimensions = {
        "batch": torch.export.Dim("batch", max=63),
        "tokens": torch.export.Dim("tokens", max=1024),
        "height": 4 * torch.export.Dim("height", max=256),
        "width": 4 * torch.export.Dim("width", max=256),
        "rows": 32 * torch.export.Dim("rows", max=256),
        "columns": 32 * torch.export.Dim("columns", max=256),
    }
    return {axis: dimensions[name] for axis, name in axes.items()}


def fill(model: ir.Model, recipe: Recipe, source: Path) -> int:
    """Tell the model how each of its tensors is made; returns their bytes.

    Raises LorararError if the model's weights lack one.
    """
    total = 0
    for name, value in model.graph.initializers.items():
        held = getattr(value.const_value, "raw", None)
        if not isinstance(held, FakeTensor):
            continue
        if name not in recipe:
            raise LorararError(f"{source}: lacks the weight '{name}'; get the model again")
        assert value.dtype is not None
        assert value.shape is not None
        make = partial(_made, recipe, name, value.dtype.numpy(), tuple(value.shape.numpy()))
        value.const_value = ir.LazyTensor(make, value.dtype, value.shape, name=name)
        total += value.const_value.nbytes
    for name in [name for name in model.graph.initializers if name.endswith(".scales")]:
        model.graph.initializers[name] = model.graph.initializers.pop(name)  # made with numbers
    # Not optimize_ir, whose rewriting takes a quarter of an hour for SDXL and gains nothing here.
    fold_constants(model, input_size_limit=FOLDED, output_size_limit=FOLDED)
    remove_unused_nodes(model)
    return total


def _made(recipe: Recipe, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> ir.Tensor:
    array = recipe[name]()
    if array.shape != shape:
        raise LorararError(
            f"weight '{name}' is {array.shape}, but the model's config.json wants {shape}; "
            "get the model again"
        )
    return ir.Tensor(np.ascontiguousarray(array, dtype), name=name)


def write(
    model: ir.Model,
    folder: Path,
    progress: Callable[[ir.TensorProtocol, ir.external_data.CallbackInfo], None],
) -> None:
    """Write model.onnx and its weights beside it, a few tensors at a time."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()  # the exporter's stack traces, with this machine's paths
    folder.mkdir(parents=True, exist_ok=True)
    ir.save(
        model,
        folder / "model.onnx",
        external_data=DATA,
        callback=progress,
        max_workers=cores(),
        max_in_flight_bytes=IN_FLIGHT,
    )
