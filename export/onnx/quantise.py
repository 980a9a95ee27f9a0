"""Quantising weights to 4 or 8 bits: blocks of numbers along a row, a scale each. numpy only.

The layout is that of ONNX Runtime's MatMulNBits: symmetric, numbers offset by half their range,
low bits first.
"""

import numpy as np

OFFSET = {4: 8, 8: 128}
WIDE_BLOCK, NARROW_BLOCK = 128, 32


def block_size(columns: int) -> int:
    """Return how many columns share a scale.

    128 where that divides a row, else 32: the fastest (benchmarks/LOG.md).
    """
    return WIDE_BLOCK if columns % WIDE_BLOCK == 0 else NARROW_BLOCK


def quantise(weight: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantise a weight (out, in) to `bits`, 4 or 8.

    Returns numbers, (out, blocks, block * bits / 8) uint8, and scales, (out, blocks) float32. In 4
    bits a block's largest weight becomes -8 exactly, whatever its sign; in 8 bits -127 or 127.
    """
    block = block_size(weight.shape[1])
    blocks = _in_blocks(np.asarray(weight, np.float32), block)
    if bits == 4:
        at = np.abs(blocks).argmax(-1)[..., None]
        scales = np.take_along_axis(blocks, at, -1)[..., 0] / -8
    else:
        scales = np.abs(blocks).max(-1) / 127
    scales[scales == 0] = 1
    numbers = np.rint(blocks / scales[..., None]) + OFFSET[bits]
    numbers = numbers.clip(0, 2 * OFFSET[bits] - 1).astype(np.uint8)
    if bits == 4:
        numbers = numbers[..., ::2] | numbers[..., 1::2] << 4
    return numbers, scales


def dequantise(numbers: np.ndarray, scales: np.ndarray, bits: int, columns: int) -> np.ndarray:
    """Return the weight (out, columns) float32 that `quantise` gave numbers and scales for."""
    if bits == 4:
        numbers = np.stack((numbers & 15, numbers >> 4), -1).reshape(*numbers.shape[:2], -1)
    blocks = (numbers.astype(np.float32) - OFFSET[bits]) * scales[..., None]
    return blocks.reshape(len(blocks), -1)[:, :columns]


def quantise_filters(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantise a convolution's weight (out, ...) to int8, a scale per filter, (out,) float32."""
    weight = np.asarray(weight, np.float32)
    scales = np.abs(weight.reshape(len(weight), -1)).max(1) / 127
    scales[scales == 0] = 1
    spread = scales.reshape(-1, *[1] * (weight.ndim - 1))
    return np.rint(weight / spread).astype(np.int8), scales


def _in_blocks(weight: np.ndarray, block: int) -> np.ndarray:
    """(out, in) -> (out, blocks, block), filled up with zeros."""
    padding = -weight.shape[1] % block
    return np.pad(weight, ((0, 0), (0, padding))).reshape(len(weight), -1, block)
