"""Merging in factored form: no dense dW is ever built."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from lorarar.errors import LorararError
from lorarar.files import Deferred
from lorarar.hypernet import Hypernet, Role, add_offset
from lorarar.lora import Layer, Lora, refuse_bad_weights
from lorarar.numeric import all_finite, joined_as, narrow, quietly, split_scale, widen
from lorarar.parallel import WORTH_A_THREAD, cores, side_by_side
from lorarar.prepare import check_prepared, features

Coefficients = dict[str, np.ndarray]


def coefficients(content: Lora, style: Lora, hypernet: Hypernet) -> Coefficients:
    """Predict m = (m_c, m_s), shape (2, in) float32, for each layer the hypernetwork covers.

    h = (W_c @ up_c) @ down_c + (W_s @ up_s) @ down_s + b;  m = W_out @ relu(h) + b_out
    (paper section 3.2, with the first layer's linearity used). A layer that only one LoRA has
    counts as zero in the other. What a LoRA has prepared is not computed again.

    Raises LorararError if the LoRAs' shapes differ, if weights are NaN or infinite, or if the
    hypernetwork fits another base or is not the one that a LoRA was prepared for.

    >>> from lorarar.standin import standin_lora
    >>> content, style = (standin_lora("koala-700m", rank=2, seed=seed) for seed in (1, 2))
    >>> m = coefficients(content, style, Hypernet.random(hidden=8))
    >>> m["unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"].shape
    (2, 640)
    """
    pair: dict[Role, Lora] = {"content": content, "style": style}
    for role, lora in pair.items():
        check_prepared(lora, role, hypernet.fingerprint, hypernet.source)

    def predict(first: str) -> Coefficients:
        names = groups[first]
        hidden, *others = [
            features(names, lora, hypernet, role)
            for role, lora in pair.items()
            if first in lora.layers
        ]
        for other in others:
            hidden += other
        width = (content if first in content.layers else style).layers[first].shape[0]
        found = hypernet.read_out(first, width, hidden)
        if not all_finite(found):
            for name, m in zip(names, found, strict=True):
                refuse_bad_weights(m, name, content, style)
        return {
            name: add_offset(m, name, hypernet.offsets, hypernet.source)
            for name, m in zip(names, found, strict=True)
        }

    names = predicted_layers(content, style, hypernet.predicted, hypernet.source)
    widest = max(hypernet.inputs)
    narrow = widest < WORTH_A_THREAD
    groups = _alike(names, content, style) if narrow else {name: [name] for name in names}
    done = side_by_side(quietly(predict), list(groups), cores(), widest)
    return {name: m for group in done.values() for name, m in group.items()}


def _alike(names: list[str], content: Lora, style: Lora) -> dict[str, list[str]]:
    """First name -> names that are computed at once, as most of a narrow layer's time is numpy's
    fixed cost; the copies that this takes would slow wide ones down."""
    groups: dict[tuple, list[str]] = {}
    for name in names:
        pair = content.layers.get(name), style.layers.get(name)
        forms = tuple(layer and _form(layer) for layer in pair)
        groups.setdefault(forms, []).append(name)
    return {group[0]: group for group in groups.values()}


def _form(layer: Layer) -> tuple:
    up, down = layer.up, layer.down
    return up.shape, up.dtype, down.shape, down.dtype, layer.scale


def predicted_layers(
    content: Lora, style: Lora, predicted: Callable[[str], bool], source: str
) -> list[str]:
    """Name the layers that get coefficients, after checking that both LoRAs fit together.

    Raises LorararError if the shapes differ or if there is nothing to predict.
    """
    names = [name for name in content.layers | style.layers if predicted(name)]
    for name in names:
        _check_pair(name, content, style)
    if not names:
        raise LorararError(
            f"{content.source}, {style.source}: no layer that {source} predicts; "
            "use --method direct"
        )
    return names


class Share(NamedTuple):
    """One LoRA's share in a merged layer; m: its columns' coefficients (in) or None for 1."""

    lora: Lora
    layer: Layer
    m: np.ndarray | None
    scale: float


def weighted_sum(
    content: Lora,
    style: Lora,
    m: Mapping[str, np.ndarray],
    content_scale: float = 1.0,
    style_scale: float = 1.0,
) -> Lora:
    """Return the exact merge as one LoRA of rank r_c + r_s, in the content LoRA's dtype.

    dW = content_scale * dW_c * m_c + style_scale * dW_s * m_s, columns scaled through down:
    up = [up_c | up_s], down = [down_c * m_c ; down_s * m_s]. Layers without an entry in `m` keep
    m = 1, 1; with an empty `m` this is the direct sum. The factors are computed when they are
    read (`numpy.asarray`), so that `save_lora` streams them.

    Raises LorararError if the LoRAs' shapes differ; reading a factor raises it if the inputs hold
    NaN or if the result overflows its dtype.

    >>> from lorarar.standin import standin_lora
    >>> content, style = (standin_lora("koala-700m", rank=2, seed=seed) for seed in (1, 2))
    >>> summed = weighted_sum(content, style, m={}, style_scale=0.5)
    >>> {layer.rank for layer in summed.layers.values()}
    {4}
    """
    layers = {}
    for name in content.layers | style.layers:
        _check_pair(name, content, style)
        parts = [
            Share(lora, lora.layers[name], m[name][side] if name in m else None, scale)
            for side, (lora, scale) in enumerate(((content, content_scale), (style, style_scale)))
            if name in lora.layers
        ]
        up, down = parts[0].layer.up, parts[0].layer.down
        rank = sum(part.layer.rank for part in parts)
        layers[name] = Layer(
            Deferred((up.shape[0], rank, *up.shape[2:]), up.dtype, partial(_up, name, parts)),
            Deferred((rank, *down.shape[1:]), down.dtype, partial(_down, name, parts)),
        )
    return Lora(layers)


def materialise(lora: Lora) -> Lora:
    """Compute every factor that is still to be computed."""
    layers = {
        name: Layer(np.asarray(layer.up), np.asarray(layer.down), layer.scale)
        for name, layer in lora.layers.items()
    }
    return Lora(layers, lora.metadata, lora.source)


@quietly
def reduce_rank(lora: Lora, rank: int) -> tuple[Lora, float]:
    """Return the best LoRA of at most `rank`, and its relative Frobenius error over all layers.

    QR of both factors and an SVD of the (r, r) core; never an SVD of dW.

    >>> from lorarar.standin import standin_lora
    >>> smaller, error = reduce_rank(standin_lora("koala-700m", rank=4, seed=0), rank=2)
    >>> {layer.rank for layer in smaller.layers.values()}, 0 < error < 1
    ({2}, True)
    """
    layers, lost, total = {}, 0.0, 0.0
    for name, layer in lora.layers.items():
        up, down = np.asarray(layer.up), np.asarray(layer.down)
        q_up, r_up = np.linalg.qr(widen(up).reshape(up.shape[0], -1))
        q_down, r_down = np.linalg.qr(widen(down).reshape(down.shape[0], -1).T)
        u, values, v = np.linalg.svd(np.float32(layer.scale) * (r_up @ r_down.T))
        squares = np.square(values, dtype=np.float64)
        total, lost = total + squares.sum(), lost + squares[rank:].sum()
        root = np.sqrt(values[:rank])
        new_up = q_up @ (u[:, : root.size] * root)
        new_down = (v[: root.size] * root[:, None]) @ q_down.T
        layers[name] = Layer(
            narrow(new_up, up.dtype).reshape(up.shape[0], root.size, *up.shape[2:]),
            narrow(new_down, down.dtype).reshape(root.size, *down.shape[1:]),
        )
    return Lora(layers, lora.metadata), float(np.sqrt(lost / total)) if total else 0.0


@quietly
def _up(name: str, parts: list[Share]) -> np.ndarray:
    scaled = []
    for part in parts:
        up, (factor, _) = np.asarray(part.layer.up), _factors(part, parts)
        scaled.append(up if factor == 1 else widen(up) * factor)
    return _joined(name, parts, scaled, axis=1)


@quietly
def _down(name: str, parts: list[Share]) -> np.ndarray:
    scaled = []
    for part in parts:
        down, (_, factor) = np.asarray(part.layer.down), _factors(part, parts)
        down = down if part.m is None else widen(down) * part.m
        scaled.append(down if factor == 1 else widen(down) * factor)
    return _joined(name, parts, scaled, axis=0)


def _factors(part: Share, parts: list[Share]) -> tuple[np.float32, np.float32]:
    """What up and down are multiplied by; columns are scaled through down besides."""
    layer, dtype = part.layer, parts[0].layer.up.dtype
    scale = layer.scale * part.scale
    if scale == 1 and layer.up.dtype == dtype:
        return np.float32(1), np.float32(1)
    return split_scale(scale, layer.up, layer.down, dtype)


def _joined(name: str, parts: list[Share], arrays: list[np.ndarray], axis: int) -> np.ndarray:
    dtype = parts[0].layer.up.dtype
    joined = joined_as(dtype, arrays, axis)
    if all_finite(joined):
        return joined
    return refuse_bad_weights(joined, name, *(part.lora for part in parts))


def _check_pair(name: str, content: Lora, style: Lora) -> None:
    one, other = content.layers.get(name), style.layers.get(name)
    if one is None or other is None:
        return
    if (one.up.shape[0], one.down.shape[1:]) != (other.up.shape[0], other.down.shape[1:]):
        raise LorararError(
            f"{style.source}: layer '{name}' is {other.shape[0]}x{other.shape[1]}, but "
            f"{content.source} has {one.shape[0]}x{one.shape[1]}; "
            "these LoRAs are for different base models"
        )
