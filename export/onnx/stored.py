"""Layers as ONNX holds them: their weights stored in fewer bits, widened where they are used.

The layers hold no weights while a graph is traced; `Recipe` tells how each stored tensor is made
of the model's weights when the graph is written.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lorarar.export.rounding import block_size, quantise, quantise_filters
from lorarar.export.weights import Weights

Make = Callable[[], np.ndarray]
Recipe = dict[str, Make]  # stored tensor's name: how it is made
Width = Callable[[str], str]  # a layer's name -> "fp32", "fp16", "int8" or "int4"

BITS = {"int8": 8, "int4": 4}
# MatMulNBits with int8 products is fastest in 8 bits; in 4 it is not, and costs accuracy.
INT8_PRODUCTS = {8: 4, 4: 0}


class StoredLinear(nn.Module):
    """x @ W^T + bias, with W^T stored as float32 or float16."""

    transposed: Tensor

    def __init__(self, name: str, layer: nn.Linear, dtype: str, weights: Weights, recipe: Recipe):
        super().__init__()
        self.bias = layer.bias
        self.register_buffer("transposed", torch.zeros(layer.weight.T.shape, dtype=_torch(dtype)))
        recipe[f"{name}.transposed"] = lambda: np.asarray(weights[f"{name}.weight"]).T

    def forward(self, x: Tensor) -> Tensor:
        product = x @ self.transposed.to(x.dtype)
        return product if self.bias is None else product + self.bias


class BlockLinear(nn.Module):
    """x @ W^T + bias as ONNX Runtime's MatMulNBits, W in 8 or 4 bits."""

    numbers: Tensor
    scales: Tensor

    def __init__(self, name: str, layer: nn.Linear, bits: int, weights: Weights, recipe: Recipe):
        super().__init__()
        self.bias, self.bits = layer.bias, bits
        self.rows, self.columns = layer.weight.shape
        self.block = block_size(self.columns)
        blocks = -(-self.columns // self.block)
        numbers = torch.zeros(self.rows, blocks, self.block * bits // 8, dtype=torch.uint8)
        self.register_buffer("numbers", numbers)
        self.register_buffer("scales", torch.zeros(self.rows, blocks))
        rounded = _Rounded(lambda: quantise(np.asarray(weights[f"{name}.weight"]), bits))
        recipe |= {f"{name}.numbers": rounded.numbers, f"{name}.scales": rounded.scales}

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


class StoredConv(nn.Module):
    """A convolution whose weight is stored as float32, float16, or int8 with a scale per filter."""

    filters: Tensor
    scales: Tensor

    def __init__(self, name: str, layer: nn.Conv2d, dtype: str, weights: Weights, recipe: Recipe):
        super().__init__()
        self.bias, self.stride = layer.bias, layer.stride
        self.padding: Any = layer.padding
        self.quantised = dtype in BITS
        key, shape = f"{name}.weight", layer.weight.shape
        if not self.quantised:
            self.register_buffer("filters", torch.zeros(shape, dtype=_torch(dtype)))
            recipe[f"{name}.filters"] = lambda: np.asarray(weights[key])
            return
        self.register_buffer("filters", torch.zeros(shape, dtype=torch.int8))
        self.register_buffer("scales", torch.zeros(shape[0]))
        rounded = _Rounded(lambda: quantise_filters(np.asarray(weights[key])))
        recipe |= {f"{name}.filters": rounded.numbers, f"{name}.scales": rounded.scales}

    def forward(self, x: Tensor) -> Tensor:
        filters = self.filters
        if self.quantised:
            filters = torch.onnx.ops.symbolic(
                "DequantizeLinear",
                (filters, self.scales),
                {"axis": 0},
                dtype=torch.float32,
                shape=filters.shape,
            )
        return functional.conv2d(x, filters.to(x.dtype), self.bias, self.stride, self.padding)


class StoredEmbedding(nn.Module):
    """A table of rows, stored as float32 or float16; `weight` by CLIP's wish."""

    weight: Tensor

    def __init__(
        self, name: str, layer: nn.Embedding, dtype: str, weights: Weights, recipe: Recipe
    ):
        super().__init__()
        self.register_buffer("weight", torch.zeros(layer.weight.shape, dtype=_torch(dtype)))
        recipe[f"{name}.weight"] = lambda: np.asarray(weights[f"{name}.weight"])

    def forward(self, ids: Tensor) -> Tensor:
        return functional.embedding(ids, self.weight).float()


class _Rounded:
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


def store(module: nn.Module, width: Width, weights: Weights) -> Recipe:
    """Replace a module's linear, convolution and embedding layers by stored ones, in place.

    Returns how every tensor of the module, replaced or not, is made of `weights`.
    """
    recipe: Recipe = {}
    for name, layer in list(module.named_modules()):
        stored = _stored(name, layer, width, weights, recipe)
        if stored is not None:
            stored._forward_hooks.update(layer._forward_hooks)  # LoRA slots
            module.set_submodule(name, stored)
    for name, _ in module.named_parameters():
        recipe[name] = partial(lambda key: np.asarray(weights[key]), name)
    return recipe


def _stored(name: str, layer: Any, width: Width, weights: Weights, recipe: Recipe):
    if isinstance(layer, nn.Linear):
        if width(name) in BITS:
            return BlockLinear(name, layer, BITS[width(name)], weights, recipe)
        return StoredLinear(name, layer, width(name), weights, recipe)
    if isinstance(layer, nn.Conv2d):
        return StoredConv(name, layer, width(name), weights, recipe)
    if isinstance(layer, nn.Embedding):
        table = "fp16" if width(name) in BITS else width(name)
        return StoredEmbedding(name, layer, table, weights, recipe)
    return None


def _torch(dtype: str) -> torch.dtype:
    return {"fp32": torch.float32, "fp16": torch.float16}[dtype]
