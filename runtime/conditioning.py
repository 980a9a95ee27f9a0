"""What steers SDXL's UNet: text embeddings, picture sizes, and guidance (2307.01952)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lorarar.runtime.backends import Tensors
from lorarar.runtime.tokenizer import ClipTokenizer


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


def embed_prompts(
    prompts: Sequence[str],
    tokenizers: Sequence[ClipTokenizer],
    embed_chunk: Callable[[Sequence[np.ndarray]], TextEmbedding],
    *,
    chunked: bool,
) -> list[TextEmbedding]:
    """Return prompts' embeddings, (1, tokens, width) and (1, width) each.

    chunked: whether long prompts become several chunks of tokens, each embedded by itself and laid
    end to end, and shorter ones are padded with empty chunks; what is pooled is the first's.
    Otherwise what one chunk has no room for is left out. embed_chunk: of the ids of one for each
    tokenizer, (1, length).
    """
    ids = [[tokenizer.chunks(prompt) for tokenizer in tokenizers] for prompt in prompts]
    count = max(len(rows) for each in ids for rows in each) if chunked else 1
    texts = []
    for each in ids:
        padded = [
            np.concatenate([rows] + [tokenizer.chunks("")] * (count - len(rows)))
            for rows, tokenizer in zip(each, tokenizers, strict=True)
        ]
        chunks = [embed_chunk([rows[i : i + 1] for rows in padded]) for i in range(count)]
        hidden = np.concatenate([chunk.hidden for chunk in chunks], 1)
        texts.append(TextEmbedding(hidden, chunks[0].pooled))
    return texts


def unet_inputs(text: TextEmbedding, size: tuple[int, int]) -> Tensors:
    """Return the UNet's inputs that stay the same in every step; size: (width, height) in pixels.

    time_ids: (n, 6), the size of a training picture, its crop's corner and the size to draw.
    """
    width, height = size
    time_ids = np.array([[height, width, 0, 0, height, width]], np.float32)
    return {
        "encoder_hidden_states": text.hidden,
        "text_embeds": text.pooled,
        "time_ids": time_ids.repeat(len(text.hidden), 0),
    }


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
