"""A layer's factors as the methods' algebra wants them."""

import numpy as np

from lorarar.lora import Lora, refuse_bad_weights
from lorarar.numeric import widen


def matrix_factors(name: str, lora: Lora) -> tuple[np.ndarray, np.ndarray]:
    """up (out, rank), the scale folded in, and down (rank, in) of a layer, both float32.

    A convolution's kernel counts as columns, as in `Layer.matrix_shape`.

    Raises LorararError if weights are not finite.
    """
    layer = lora.layers[name]
    up, down = (
        widen(refuse_bad_weights(factor, name, lora)).reshape(len(factor), -1)
        for factor in map(np.asarray, (layer.up, layer.down))
    )
    return np.float32(layer.scale) * up, down


def widest(lora: Lora) -> int:
    """The largest of the layers' widths, 0 without layers; see `lorarar.parallel`."""
    return max((max(layer.shape) for layer in lora.layers.values()), default=0)
