"""One adapted layer, made from the factors that a file has for it."""

import math
from typing import NamedTuple

import ml_dtypes
import numpy as np

from lorarar.errors import LorararError
from lorarar.files import Array, Deferred

KEPT = {np.dtype(kept) for kept in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)}
FLOAT8 = {  # of which float16 holds every value
    np.dtype(short)
    for short in (
        ml_dtypes.float8_e4m3fn,
        ml_dtypes.float8_e5m2,
        ml_dtypes.float8_e4m3fnuz,
        ml_dtypes.float8_e5m2fnuz,
    )
}
FLOATS = KEPT | FLOAT8
WIDE, HALF = np.dtype(np.float32), np.dtype(np.float16)


class Layer(NamedTuple):
    """One adapted layer: dW = scale * up @ down, with scale = alpha / rank.

    up: (out, rank); down: (rank, in), both of one dtype: float16, bfloat16, float32 or float64.
    Convolutions keep trailing kernel axes.
    """

    up: Array
    down: Array
    scale: float = 1.0

    @property
    def rank(self) -> int:
        """The inner size of the two factors."""
        return self.down.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the adapted weight."""
        return self.up.shape[0], self.down.shape[1]

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(out, in, times the kernel's size where there is one) of the adapted weight."""
        return self.up.shape[0], math.prod(self.down.shape[1:])


def matrix_shape(up: np.ndarray, down: np.ndarray) -> tuple[int, int]:
    """The adapted weight's shape as a matrix, with the kernel in whichever factor has it."""
    kernel = math.prod(up.shape[2:]) if math.prod(down.shape[2:]) == 1 else 1
    return up.shape[0], math.prod(down.shape[1:]) * kernel


def check_part(part: np.ndarray, name: str, source: str) -> None:
    """Raise LorararError unless it holds floating-point numbers."""
    if part.dtype not in FLOATS:
        raise LorararError(
            f"{source}: layer '{name}' has {part.dtype} weights; save them as F32, F16 or BF16"
        )


def check_ranks(up: np.ndarray, down: np.ndarray, name: str, source: str) -> None:
    """Raise LorararError unless both share their rank."""
    if up.ndim < 2 or down.ndim < 2 or up.shape[1] != down.shape[0]:
        raise LorararError(
            f"{source}: layer '{name}' has up {up.shape} and down {down.shape}, "
            "whose ranks differ (swapped up and down?); save the LoRA again"
        )


def fits(up: np.ndarray, down: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether the factors' own axes are a weight's of this shape, axes of 1 and flat kernels
    aside."""
    if math.prod(up.shape[2:]) != 1:
        return (*_without_ones(down.shape[1:]), *up.shape[2:]) == shape[1:]
    if down.ndim == 2:
        return down.shape[1] == math.prod(shape[1:])
    return _without_ones(down.shape[1:]) == _without_ones(shape[1:])


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    kept = len(shape)
    while kept > 1 and shape[kept - 1] == 1:
        kept -= 1
    return shape[:kept]


def make_layer(up: np.ndarray, down: np.ndarray, scale: float, shape: tuple[int, ...]) -> Layer:
    """Make a layer of a weight of this shape: (out, in), or (out, in, height, width).

    Linear layers kept as 1x1 convolutions, and convolutions kept as matrices, get their axes; a
    kernel in up goes to down, which multiplies the rank by its size; factors of different dtypes
    get the narrowest that holds both, float8 becoming float16. All of it is exact.
    """
    rank, kernel = down.shape[0], shape[2:]
    dtype = common_dtype(up.dtype, down.dtype)
    if up.size > shape[0] * rank:
        return Layer(*_with_kernel_in_down(up, down, dtype), scale)
    ones = (1,) * len(kernel)
    return Layer(
        _as(up.reshape(shape[0], rank, *ones), dtype),
        _as(down.reshape(rank, *shape[1:]), dtype),
        scale,
    )


def common_dtype(*dtypes: np.dtype) -> np.dtype:
    """The narrowest of `KEPT` that holds all."""
    wide = {HALF if dtype in FLOAT8 else dtype for dtype in dtypes}
    if len(wide) == 1:
        return wide.pop()
    return max(*wide, WIDE, key=lambda dtype: dtype.itemsize)


def _as(factor: np.ndarray, dtype: np.dtype) -> Array:
    """The factor where it is, if it can be used there, or else a copy whenever it is read."""
    if factor.dtype == dtype and factor.flags.aligned:
        return factor
    return Deferred(factor.shape, dtype, lambda: factor.astype(dtype))


def _with_kernel_in_down(up: np.ndarray, down: np.ndarray, dtype: np.dtype) -> tuple[Array, Array]:
    """up (out, rank, h, w) and down (rank, in, 1, 1) as (out, rank h w, 1, 1) and a down whose
    kernels have a single entry each."""
    out, rank, *kernel = up.shape
    width, size = down.shape[1], math.prod(kernel)

    def make_down() -> np.ndarray:
        places = np.eye(size, dtype=dtype)
        spread = down.astype(dtype).reshape(rank, 1, width, 1) * places[:, None, :]
        return spread.reshape(rank * size, width, *kernel)

    ones = (1,) * len(kernel)
    return (
        _as(up.reshape(out, rank * size, *ones), dtype),
        Deferred((rank * size, width, *kernel), dtype, make_down),
    )
