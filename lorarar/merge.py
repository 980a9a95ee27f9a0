"""Merging in factored form: no dense dW is ever built."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorarar.errors import LorararError
from lorarar.hypernet import Hypernet
from lorarar.lora import Layer, Lora

Coefficients = dict[str, Tensor]


def coefficients(content: Lora, style: Lora, hypernet: Hypernet) -> Coefficients:
    """Predict m = (m_c, m_s), shape (2, in) float32, for each layer the hypernetwork covers.

    h = (W_c @ up_c) @ down_c + (W_s @ up_s) @ down_s + b;  m = W_out @ relu(h) + b_out
    (paper section 3.2, with the first layer's linearity used). A layer that only one LoRA has
    counts as zero in the other.

    Raises LorararError if the LoRAs' shapes differ or the hypernetwork fits another base.
    """
    weight_out, bias_out = hypernet.output
    predicted = {}
    for name in content.layers | style.layers:
        if not hypernet.predicted(name):
            continue
        pair = [lora.layers.get(name) for lora in (content, style)]
        _check_pair(name, content, style)
        width = next(layer.up.shape[0] for layer in pair if layer)
        weight, bias = hypernet.input_for(name, width)
        hidden = bias[:, None]
        for half, layer in zip(weight.split(width, dim=1), pair, strict=True):
            if layer:
                hidden = hidden + layer.scale * (half @ layer.up.float()) @ layer.down.float()
        predicted[name] = torch.addmm(bias_out[:, None], weight_out, hidden.relu())
    if not predicted:
        raise LorararError(
            f"{content.source}, {style.source}: no layer ends in {', '.join(hypernet.predicts)}; "
            f"{hypernet.source} has nothing to merge, try --method direct"
        )
    return predicted


def merge(
    content: Lora,
    style: Lora,
    m: Mapping[str, Tensor],
    content_scale: float = 1.0,
    style_scale: float = 1.0,
) -> Lora:
    """Return the exact merge as one LoRA of rank r_c + r_s, in the inputs' dtype.

    dW = content_scale * dW_c * m_c + style_scale * dW_s * m_s, columns scaled through down:
    up = [up_c | up_s], down = [down_c * m_c ; down_s * m_s]. Layers without an entry in `m` keep
    m = 1, 1; with an empty `m` this is the direct sum.

    Raises LorararError if the LoRAs' shapes differ or a merged weight overflows its dtype.
    """
    layers = {}
    for name in content.layers | style.layers:
        _check_pair(name, content, style)
        parts = [
            _scaled(lora.layers[name], m[name][side] if name in m else None, scale)
            for side, (lora, scale) in enumerate(((content, content_scale), (style, style_scale)))
            if name in lora.layers
        ]
        dtype = next(lora.layers[name].up.dtype for lora in (content, style) if name in lora.layers)
        merged = Layer(
            torch.cat([up for up, _ in parts], dim=1).to(dtype),
            torch.cat([down for _, down in parts]).to(dtype),
        )
        if not (merged.up.isfinite().all() and merged.down.isfinite().all()):
            raise LorararError(f"layer '{name}' overflows {dtype} when merged; use smaller scales")
        layers[name] = merged
    return Lora(layers)


def reduce_rank(lora: Lora, rank: int) -> tuple[Lora, float]:
    """Return the best LoRA of at most `rank`, and its relative Frobenius error over all layers.

    QR of both factors and an SVD of the (r, r) core; never an SVD of dW.
    """
    layers, lost, total = {}, 0.0, 0.0
    for name, layer in lora.layers.items():
        q_up, r_up = torch.linalg.qr(layer.up.flatten(1).float())
        q_down, r_down = torch.linalg.qr(layer.down.flatten(1).float().T)
        u, values, v = torch.linalg.svd(layer.scale * r_up @ r_down.T)
        total += float(values.square().sum())
        lost += float(values[rank:].square().sum())
        root = values[:rank].sqrt()
        size = root.numel()
        layers[name] = Layer(
            (q_up @ (u[:, :size] * root)).to(layer.up.dtype).reshape(-1, size, *layer.up.shape[2:]),
            ((v[:size] * root[:, None]) @ q_down.T)
            .to(layer.down.dtype)
            .reshape(size, *layer.down.shape[1:]),
        )
    return Lora(layers, lora.metadata), (lost / total) ** 0.5 if total else 0.0


def _scaled(layer: Layer, m: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Fold scales into up and columns into down, so neither factor leaves its dtype's range."""
    down = layer.down.float()
    return layer.up.float() * (layer.scale * scale), down if m is None else down * m


def _check_pair(name: str, content: Lora, style: Lora) -> None:
    one, other = content.layers.get(name), style.layers.get(name)
    if one is None or other is None:
        return
    if (one.up.shape[0], one.down.shape[1:]) != (other.up.shape[0], other.down.shape[1:]):
        raise LorararError(
            f"{style.source}: layer '{name}' is {other.up.shape[0]}x{other.down.shape[1]}, but "
            f"{content.source} has {one.up.shape[0]}x{one.down.shape[1]}; "
            "these LoRAs are for different base models"
        )
