"""Between float32, in which everything is computed, and the dtypes that files hold."""

from collections.abc import Sequence
from math import inf, isfinite, log2, log10

import numpy as np
from numpy.typing import ArrayLike

# What overflows or is NaN is reported as an error that names the file, not as numpy's warning.
quietly = np.errstate(over="ignore", invalid="ignore")
EXPONENT_BITS = {"float16": 0x7C00, "bfloat16": 0x7F80}
SMALL = 4096  # elements; up to here numpy's own conversion takes less than calling several ufuncs

# Until a large block has been freed once, glibc hands scratch arrays back to the kernel and
# faults their pages in again each time, which made merging 2.5 times slower (benchmarks/LOG.md).
np.empty(30 << 20, np.uint8)


def widen(array: np.ndarray) -> np.ndarray:
    """Return float32 of the same shape; exact for finite float16, bfloat16 and int8."""
    if array.dtype != np.float16 or array.size <= SMALL:
        return array.astype(np.float32, copy=False)
    # Twice as fast as numpy's scalar conversion: move exponent and mantissa, then correct the
    # exponent's bias by a multiplication, which treats subnormal numbers right as well.
    bits = array.view(np.uint16).astype(np.uint32)
    sign = (bits & np.uint32(0x8000)) << np.uint32(16)
    bits &= np.uint32(0x7FFF)
    bits <<= np.uint32(13)
    magnitude = bits.view(np.float32)
    magnitude *= np.float32(2.0**112)
    bits |= sign
    return magnitude


def narrow(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round float32 to a file's dtype; what is too large becomes infinite.

    To nearest, ties to even; float16's subnormals (below 6e-5) may be off by one last place.
    """
    if dtype != np.float16 or array.dtype != np.float32 or array.size <= SMALL:
        return array.astype(dtype, copy=False)
    # As in `widen`, the other way: three times as fast as numpy where some results are subnormal.
    bits = (np.abs(array) * np.float32(2.0**-112)).view(np.uint32)
    rounding = (bits >> np.uint32(13)) & np.uint32(1)
    rounding += np.uint32(0xFFF)
    bits += rounding
    bits >>= np.uint32(13)
    np.minimum(bits, np.uint32(EXPONENT_BITS["float16"]), out=bits)
    half = bits.astype(np.uint16)
    half |= (array.view(np.uint32) >> np.uint32(16)).astype(np.uint16) & np.uint16(0x8000)
    return half.view(np.float16)


def joined_as(dtype: np.dtype, arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Concatenate arrays, each rounded to `dtype` as by `narrow`."""
    if arrays[0].size <= SMALL and len({array.dtype for array in arrays}) == 1:
        return np.concatenate(arrays, axis).astype(dtype, copy=False)
    wide = (array if array.dtype == dtype else widen(array) for array in arrays)
    return np.concatenate([narrow(array, dtype) for array in wide], axis)


def split_scale(
    scale: float, up: ArrayLike, down: ArrayLike, dtype: np.dtype
) -> tuple[np.float32, np.float32]:
    """Return factors for up and down that make up `scale`, which keep both in the dtype's range.

    In float16 both factors come out about as large, and down's is a power of two: 1 / 128 all on
    up would leave many of its entries without digits. Other dtypes' range is wide enough.
    """
    if dtype != np.float16 or not scale:
        return np.float32(scale), np.float32(1)
    largest = [largest_magnitude(np.asarray(factor)) for factor in (up, down)]
    if not all(0 < size < inf for size in largest):
        return np.float32(scale), np.float32(1)
    exponent = round(log2(largest[0] * abs(scale) / largest[1]) / 2)
    return np.float32(scale / 2.0**exponent), np.float32(2.0**exponent)


def largest_magnitude(array: np.ndarray) -> float:
    """max |x|, by bits where numpy's own is slow; NaN or infinite if an entry is."""
    if array.dtype != np.float16 or array.size <= SMALL:
        return float(np.abs(array).max(initial=0))
    bits = (array.view(np.uint16) & np.uint16(0x7FFF)).max()
    return float(bits.view(np.float16))


def all_finite(array: np.ndarray) -> bool:
    """Like `numpy.isfinite(array).all()`, by exponent bits where numpy's own is slow."""
    dtype = array.dtype.type.__name__  # `dtype.name` takes longer than a small layer
    if dtype == "float16" and array.size <= SMALL:
        wide = array.astype(np.float32)
        return isfinite(np.vdot(wide, wide))  # squares of float16 are far from float32's limit
    if dtype not in EXPONENT_BITS or array.size <= SMALL:
        return bool(np.isfinite(array).all())
    exponent = EXPONENT_BITS[dtype]  # all ones: infinite or NaN; signs make a number negative
    largest, lowest = array.view(np.int16).max(initial=0), array.view(np.uint16).max(initial=0)
    return bool(largest < exponent and lowest < (exponent | 0x8000))


def psnr(found: np.ndarray, wanted: np.ndarray) -> float:
    """10 log10(1 / mean squared error) in dB, of pictures in [0, 1]; infinite where equal."""
    error = float(np.square(found - wanted).mean())
    return -10 * log10(error) if error else inf
