"""A base's weights, drawn from a seed one at a time."""

import zlib
from functools import partial

import numpy as np
from torch import nn

from lorarar.diffusion.weights import Weights
from lorarar.files import Deferred


def random_weights(module: nn.Module, seed: int) -> Weights:
    """Draw float16 weights for a module's parameters, which may be on the meta device.

    Each depends on its name and the seed alone. Rows have about unit norm, biases are 0 and the
    scales of norms 1, so that activations stay in range.
    """
    return {
        name: Deferred(
            tuple(parameter.shape),
            np.dtype(np.float16),
            partial(_draw, name, tuple(parameter.shape), seed),
        )
        for name, parameter in module.named_parameters()
    }


def _draw(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    if len(shape) == 1:
        return np.full(shape, not name.endswith("bias"), np.float16)
    generator = np.random.default_rng((zlib.crc32(name.encode()), seed))
    deviation = np.float32(np.prod(shape[1:]) ** -0.5)
    return (generator.standard_normal(shape, np.float32) * deviation).astype(np.float16)
