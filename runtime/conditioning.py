"""What steers SDXL's UNet: text embeddings, picture sizes, and guidance (2307.01952)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lorarar.runtime.backends import Tensors

TEXT_INPUT = "encoder_hidden_states"


class TextEmbedding(NamedTuple):
    """Texts as the UNet reads them. hidden: (n, tokens, width); pooled: (n, width); float32."""

    hidden: np.ndarray
    pooled: np.ndarray


def zeros_like(text: TextEmbedding) -> TextEmbedding:
    """Return what stands for no text at all where a model was trained so."""
    return TextEmbedding(np.zeros_like(text.hidden), np.zeros_like(text.pooled))


def concatenate(texts: Sequence[TextEmbedding]) -> TextEmbedding:
    """Return several embeddings as one batch."""
    hidden, pooled = zip(*texts, strict=True)
    return TextEmbedding(np.concatenate(hidden), np.concatenate(pooled))


def unet_inputs(text: TextEmbedding, size: tuple[int, int]) -> Tensors:
    """Return the UNet's inputs that stay the same in every step; size: (width, height) in pixels.

    time_ids: (n, 6), the size of a training picture, its crop's corner and the size to draw.
    """
    width, height = size
    time_ids = np.array([[height, width, 0, 0, height, width]], np.float32)
    return {
        TEXT_INPUT: text.hidden,
        "text_embeds": text.pooled,
        "time_ids": time_ids.repeat(len(text.hidden), 0),
    }


def at_step(inputs: Tensors, sample: np.ndarray, time: float) -> Tensors:
    """Return all inputs of a step; sample: one picture's, (1, channels, height, width)."""
    batch = sample.repeat(len(inputs["time_ids"]), 0)
    return inputs | {"sample": batch, "timestep": np.array([time], np.float32)}


def guidance_embedding(guidance: float, width: int) -> np.ndarray:
    """Return (1, width) float32, what a UNet takes that was distilled with its guidance.

    Sines, then cosines, of 1000 (guidance - 1), as diffusers' `get_guidance_scale_embedding`
    (Meng et al. 2210.03142, section 3.1).

    >>> guidance_embedding(1.0, 4).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """
    half = width // 2
    rates = np.exp(-np.log(np.float32(10_000)) / (half - 1) * np.arange(half, dtype=np.float32))
    angles = np.float32(1000 * (guidance - 1)) * rates
    embedding = np.concatenate([np.sin(angles), np.cos(angles), np.zeros(width % 2)])
    return embedding[None].astype(np.float32)


def guided(outputs: np.ndarray, guidance: float) -> np.ndarray:
    """Return unguided + guidance * (asked - unguided) of a batch (unguided, asked).

    Classifier-free guidance (Ho and Salimans 2207.12598); a batch of one is returned as it is.

    >>> guided(np.array([[1.0], [2.0]]), guidance=5.0).tolist()
    [[6.0]]
    """
    if len(outputs) == 1:
        return outputs
    unguided, asked = outputs[:1], outputs[1:]
    return unguided + guidance * (asked - unguided)
