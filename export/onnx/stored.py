"""Layers as ONNX holds them: their weights stored in fewer bits, widened where they are used.

The layers hold no weights while a graph is traced; `Recipe` tells how each stored tensor is made
of the model's weights when the graph is written.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lorarar.diffusion.weights import Weights
from lorarar.export.onnx.quantise import OFFSET, WIDE_BLOCK, block_size, quantise, quantise_filters

Make = Callable[[], np.ndarray]
Recipe = dict[str, Make]  # stored tensor's name: how it is made
StoredAs = Literal["fp32", "fp16", "int8", "int4"]

NUMBER_BITS: dict[StoredAs, int] = {"int8": 8, "int4": 4}  # of quantised numbers
FLOAT_DTYPES: dict[StoredAs, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16}
# MatMulNBits with int8 products is fastest in 8 bits; in 4 it is not, and costs accuracy.
INT8_PRODUCTS = {8: 4, 4: 0}


class StoredLinear(nn.Module):
    """x @ W^T + bias, with W^T stored as float32 or float16."""

    transposed: Tensor

    def __init__(self, layer: nn.Linear, dtype: torch.dtype):
        super().__init__()
        self.bias = layer.bias
        self.register_buffer("transposed", torch.zeros(layer.weight.T.shape, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        product = x @ self.transposed.to(x.dtype)
        return product if self.bias is None else product + self.bias

    def recipe(self, weight: Make) -> Recipe:
        """How its tensors, named without the layer's own name, are made of the original weight."""
        return {"transposed": lambda: weight().T}


class BlockLinear(nn.Module):
    """x @ W^T + bias as ONNX Runtime's MatMulNBits, W in 8 or 4 bits."""

    numbers: Tensor
    scales: Tensor

    def __init__(self, layer: nn.Linear, bits: int):
        super().__init__()
        self.bias, self.bits = layer.bias, bits
        self.rows, self.columns = layer.weight.shape
        self.block = block_size(self.columns)
        blocks = -(-self.columns // self.block)
        numbers = torch.zeros(self.rows, blocks, self.block * bits // 8, dtype=torch.uint8)
        self.register_buffer("numbers", numbers)
        self.register_buffer("scales", torch.zeros(self.rows, blocks))

    def forward(self, x: Tensor) -> Tensor:
        product: Tensor = torch.onnx.ops.symbolic(
            "com.microsoft::MatMulNBits",
            (x, self.numbers, self.scales),
            {
                "K": self.columns,
                "N": self.rows,
                "bits": self.bits,
                "block_size": self.block,
                "accuracy_level": INT8_PRODUCTS[self.bits],
            },
            dtype=x.dtype,
            shape=(*x.shape[:-1], self.rows),
            version=1,
        )
        return product if self.bias is None else product + self.bias

    def recipe(self, weight: Make) -> Recipe:
        """How its tensors, named without the layer's own name, are made of the original weight."""
        made = _NumbersAndScales(lambda: quantise(weight(), self.bits))
        return {"numbers": made.numbers, "scales": made.scales}


class NarrowLinear(StoredLinear):
    """x @ W^T + bias, W in 8 bits, which the runtime widens to float32 when it opens the graph.

    Of blocks as short as a narrow row allows, products of 8 bits take up to 1.6 times as long as
    those of float32 (benchmarks/LOG.md).
    """

    scales: Tensor

    def __init__(self, layer: nn.Linear):
        super().__init__(layer, torch.int8)
        self.block = block_size(layer.in_features)
        blocks = -(-layer.in_features // self.block)
        self.register_buffer("scales", torch.zeros(blocks, layer.out_features))

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.onnx.ops.symbolic(
            "DequantizeLinear",
            (self.transposed, self.scales),
            {"axis": 0, "block_size": self.block},
            dtype=x.dtype,
            shape=self.transposed.shape,
        )
        product = x @ weight
        return product if self.bias is None else product + self.bias

    def recipe(self, weight: Make) -> Recipe:
        """How its tensors, named without the layer's own name, are made of the original weight."""

        def quantised() -> tuple[np.ndarray, np.ndarray]:
            original = weight()
            numbers, scales = quantise(original, 8)
            rows = (numbers.astype(np.int16) - OFFSET[8]).astype(np.int8).reshape(len(numbers), -1)
            return rows[:, : original.shape[1]].T, scales.T

        made = _NumbersAndScales(quantised)
        return {"transposed": made.numbers, "scales": made.scales}


class StoredConv(nn.Module):
    """A convolution whose weight is stored as float32 or float16."""

    filters: Tensor

    def __init__(self, layer: nn.Conv2d, dtype: torch.dtype):
        super().__init__()
        self.bias, self.stride = layer.bias, layer.stride
        self.padding: Any = layer.padding
        self.register_buffer("filters", torch.zeros(layer.weight.shape, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        filters = self.filters.to(x.dtype)
        return functional.conv2d(x, filters, self.bias, self.stride, self.padding)

    def recipe(self, weight: Make) -> Recipe:
        """How its tensors, named without the layer's own name, are made of the original weight."""
        return {"filters": weight}


class QuantisedConv(StoredConv):
    """A convolution whose weight is stored as int8 with a scale per filter.

    The runtime widens it to float32 when it opens the graph; in each step would take 5 % longer.
    """

    scales: Tensor

    def __init__(self, layer: nn.Conv2d):
        super().__init__(layer, torch.int8)
        self.register_buffer("scales", torch.zeros(len(layer.weight)))

    def forward(self, x: Tensor) -> Tensor:
        filters = torch.onnx.ops.symbolic(
            "DequantizeLinear",
            (self.filters, self.scales),
            {"axis": 0},
            dtype=torch.float32,
            shape=self.filters.shape,
        )
        filters = filters.to(x.dtype)
        return functional.conv2d(x, filters, self.bias, self.stride, self.padding)

    def recipe(self, weight: Make) -> Recipe:
        """How its tensors, named without the layer's own name, are made of the original weight."""
        made = _NumbersAndScales(lambda: quantise_filters(weight()))
        return {"filters": made.numbers, "scales": made.scales}


class StoredEmbedding(nn.Module):
    """A table of rows, stored as float32 or float16; CLIP reads its `weight` by this name."""

    weight: Tensor

    def __init__(self, layer: nn.Embedding, dtype: torch.dtype):
        super().__init__()
        self.register_buffer("weight", torch.zeros(layer.weight.shape, dtype=dtype))

    def forward(self, ids: Tensor) -> Tensor:
        return functional.embedding(ids, self.weight).float()

    def recipe(self, weight: Make) -> Recipe:
        """How its tensors, named without the layer's own name, are made of the original weight."""
        return {"weight": weight}


class _NumbersAndScales:
    """Makes numbers, and keeps their scales, which are small, until those are asked for."""

    def __init__(self, make: Callable[[], tuple[np.ndarray, np.ndarray]]):
        self.make = make
        self.kept: np.ndarray | None = None

    def numbers(self) -> np.ndarray:
        numbers, self.kept = self.make()
        return numbers

    def scales(self) -> np.ndarray:
        scales, self.kept = self.kept, None
        return self.make()[1] if scales is None else scales


Stored = StoredLinear | BlockLinear | StoredConv | StoredEmbedding


def store(module: nn.Module, width: Callable[[str], StoredAs], weights: Weights) -> Recipe:
    """Replace a module's linear, convolution and embedding layers by stored ones, in place.

    width: of a layer's name. Returns how every tensor of the module, replaced or not, is made of
    `weights`.
    """

    def read(name: str) -> np.ndarray:
        return np.asarray(weights[name])

    recipe: Recipe = {}
    for name, layer in list(module.named_modules()):
        stored = _stored(layer, width(name))
        if stored is not None:
            module.set_submodule(name, stored)
            made = stored.recipe(partial(read, f"{name}.weight"))
            recipe |= {f"{name}.{key}": make for key, make in made.items()}
    return recipe | {name: partial(read, name) for name, _ in module.named_parameters()}


def _stored(layer: nn.Module, width: StoredAs) -> Stored | None:
    if isinstance(layer, nn.Linear):
        if width == "int8" and block_size(layer.in_features) < WIDE_BLOCK:
            return NarrowLinear(layer)
        if width in NUMBER_BITS:
            return BlockLinear(layer, NUMBER_BITS[width])
        return StoredLinear(layer, FLOAT_DTYPES[width])
    if isinstance(layer, nn.Conv2d):
        return (
            QuantisedConv(layer) if width in NUMBER_BITS else StoredConv(layer, FLOAT_DTYPES[width])
        )
    if isinstance(layer, nn.Embedding):
        return StoredEmbedding(layer, FLOAT_DTYPES.get(width, torch.float16))
    return None
