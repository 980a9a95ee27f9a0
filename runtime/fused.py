"""Prepared merges in one pass over the features, compiled by numba: no engine, no scratch memory.

Each feature is read once and as it is stored, float32, float16 or int8, so that a merge takes as
long as the memory does to deliver them. The reference is numpy's `Hypernet.read_out`.

Importing this takes numba 0.2 s. Compiling takes about a second, once per machine and dtype.
"""

import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding, ir
from numba import carray, njit, types
from numba.extending import intrinsic

from lorarar.errors import LorararError
from lorarar.hypernet import ReadOut
from lorarar.lora import Lora, refuse_bad_weights
from lorarar.merge import Coefficients
from lorarar.numeric import widen
from lorarar.prepare import kept_feature

# For processors without an instruction that widens float16, LLVM calls a function that numba does
# not have, which ends the process.
WIDENS_FLOAT16 = platform.machine().lower() in ("aarch64", "arm64") or bool(
    binding.get_host_cpu_features().get("f16c")
)
WIDE, HALF, BYTE = np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.int8)
LAYER_FIELDS = 7
BATCH = 20  # layers in a call
Side = tuple[np.ndarray, np.ndarray]  # values (hidden, in), scales (hidden, 1) float32


def prepared_coefficients(
    names: Sequence[str], content: Lora, style: Lora, read_out: ReadOut, threads: int
) -> Coefficients:
    """Predict m, (2, in) float32, of the layers `names`, without their offsets.

    m = W_out @ max(f_c + f_s, -b) + (W_out @ b + b_out), where f = values * scales is what a LoRA
    has prepared at a level "full-...", which need not be the same for both. A layer that only one
    of them has counts as zero in the other. names: of layers whose out widths `read_out` knows.

    Raises LorararError if features are missing or misshapen, or if an m is not finite.
    """
    biases = np.stack(list(read_out.input_biases.values()))
    weights = read_out.weight, -biases, biases @ read_out.weight.T + read_out.bias
    found: Coefficients = {}
    batches, running = [], []
    with ThreadPoolExecutor(threads) as pool:  # batches are merged while the next are laid out
        for first in range(0, len(names), BATCH):
            batch = _lay_out(names[first : first + BATCH], content, style, read_out)
            batches.append(batch)
            found |= batch.found
            running += [
                pool.submit(_merge, batch.layers[rows], *examples, *weights, batch.m)
                for examples, rows in batch.rows_alike()
            ]
        all_finite = all(task.result() for task in running)
    if not all_finite:
        for name, m in found.items():
            refuse_bad_weights(m, name, content, style)
    return found


class _Batch(NamedTuple):
    """Layers to be merged.

    layers: a row for each, see `_enter`; sides: what its addresses lead to; m: of all layers, flat;
    found: views of it by name.
    """

    layers: np.ndarray
    sides: list[tuple[Side, Side]]
    m: np.ndarray
    found: Coefficients

    def rows_alike(self) -> Iterator[tuple[tuple[np.ndarray, np.ndarray], list[int]]]:
        """Yield an empty array of either LoRA's dtype, and the rows of the layers that have it."""
        rows: dict[tuple[np.dtype, np.dtype], list[int]] = {}
        for row, ((one, _), (other, _)) in enumerate(self.sides):
            rows.setdefault((one.dtype, other.dtype), []).append(row)
        for (one_dtype, other_dtype), alike in rows.items():
            yield (np.empty(0, one_dtype), np.empty(0, other_dtype)), alike


def _lay_out(names: Sequence[str], content: Lora, style: Lora, read_out: ReadOut) -> _Batch:
    hidden, widths = read_out.weight.shape[1], list(read_out.input_biases)
    ones = np.ones((hidden, 1), np.float32)
    shapes = [(content if name in content.layers else style).layers[name].shape for name in names]
    m = np.empty(2 * sum(columns for _, columns in shapes), np.float32)
    batch = _Batch(np.empty((len(names), LAYER_FIELDS), np.int64), [], m, {})
    start = 0
    for row, (name, (out, columns)) in enumerate(zip(names, shapes, strict=True)):
        sides = _sides(name, content, style, (hidden, columns), ones)
        (one, one_scales), (other, other_scales) = sides
        width = widths.index(out)
        _enter(batch.layers, row, one, other, one_scales, other_scales, columns, width, start)
        batch.sides.append(sides)
        batch.found[name] = m[start : start + 2 * columns].reshape(2, columns)
        start += 2 * columns
    return batch


def _sides(
    name: str, content: Lora, style: Lora, shape: tuple[int, int], ones: np.ndarray
) -> tuple[Side, Side]:
    """A layer's values and scales of both LoRAs; one that lacks it has the other's, times 0."""
    there = [_readable(name, lora, shape, ones) for lora in (content, style) if name in lora.layers]
    if len(there) == 2:
        return there[0], there[1]
    ((values, scales),) = there
    absent = values, np.zeros_like(scales)
    return (there[0], absent) if name in content.layers else (absent, there[0])


def _readable(name: str, lora: Lora, shape: tuple[int, int], ones: np.ndarray) -> Side:
    """A layer's values and scales as `_merge` reads them."""
    values, scales = kept_feature(name, lora)
    if scales is None:
        scales = ones
    if values.shape != shape or scales.shape != ones.shape:
        raise LorararError(
            f"{lora.source}: layer '{name}' has features {values.shape} with scales "
            f"{scales.shape}, not {shape} with {ones.shape}; run lorarar prepare again"
        )
    if values.dtype == HALF and WIDENS_FLOAT16:
        values = values.view(np.uint16)  # numba knows no float16 here
    elif values.dtype not in (WIDE, BYTE):
        values = widen(values)
    return _plain(values), _plain(widen(scales))


def _plain(array: np.ndarray) -> np.ndarray:
    """The array itself, or a copy where it is not laid out as compiled code takes it."""
    return array if array.flags.c_contiguous and array.flags.aligned else array.copy("C")


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function as machine code that runs without the interpreter's lock."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither this folder nor the user's cache can be written to
        return njit(**options)(function)


instruction: Any = intrinsic  # whose calls have an argument less than its definition


@instruction
def _pointer(context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


@instruction
def _wide(context: Any, value: Any) -> Any:
    """float32 of a float32, an int8 or a float16's bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (given,) = arguments
        if value == types.uint16:
            return builder.fpext(builder.bitcast(given, ir.HalfType()), ir.FloatType())
        return builder.sitofp(given, ir.FloatType()) if value == types.int8 else given

    return types.float32(value), generate


@_compiled
def _enter(layers, row, content, style, content_scales, style_scales, columns, width, start):  # type: ignore[no-untyped-def]
    """Write a layer's row: four addresses, its columns, its width's row, where its m begins."""
    layers[row, 0] = content.ctypes.data
    layers[row, 1] = style.ctypes.data
    layers[row, 2] = content_scales.ctypes.data
    layers[row, 3] = style_scales.ctypes.data
    layers[row, 4] = columns
    layers[row, 5] = width
    layers[row, 6] = start


@_compiled
def _merge(layers, content_like, style_like, weight, lowest, shifts, m):  # type: ignore[no-untyped-def]
    """Fill in the m of each layer; returns whether all of it is finite.

    One call for many layers, as threads wait for the interpreter's lock around each call.
    """
    hidden = weight.shape[1]
    finite = True
    for row in range(len(layers)):
        content, style, content_scales, style_scales, columns, width, start = layers[row]
        f_c = carray(_pointer(content), (hidden, columns), content_like.dtype)
        f_s = carray(_pointer(style), (hidden, columns), style_like.dtype)
        s_c = carray(_pointer(content_scales), hidden, np.float32)
        s_s = carray(_pointer(style_scales), hidden, np.float32)
        m_c = m[start : start + columns]
        m_s = m[start + columns : start + 2 * columns]
        m_c[:] = shifts[width, 0]
        m_s[:] = shifts[width, 1]
        for h in range(hidden):
            low = lowest[width, h]
            for j in range(columns):
                feature = _wide(f_c[h, j]) * s_c[h] + _wide(f_s[h, j]) * s_s[h]
                kept = low if feature < low else feature  # NaN stays
                m_c[j] += weight[0, h] * kept
                m_s[j] += weight[1, h] * kept
        for j in range(columns):
            finite &= np.isfinite(m_c[j]) & np.isfinite(m_s[j])
    return finite
