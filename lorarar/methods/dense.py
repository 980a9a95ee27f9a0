"""TIES, DARE and DARE-TIES: peft's routines on the dense differences, factored again.

These pick single entries of dW, so they have no factored form: slow, kept for comparison.
"""

from collections.abc import Callable

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from lorarar.errors import LorararError
from lorarar.lora import Layer, Lora, refuse_bad_weights
from lorarar.methods.options import MergeOptions, Method
from lorarar.numeric import narrow, quietly, widen

SPARE_RANK = 8  # more columns than asked for make the randomised SVD exact to rounding


def ties(content: Lora, style: Lora, options: MergeOptions) -> Lora:
    """TIES (arXiv 2306.01708)."""
    return _merge("ties", content, style, options)


def dare(content: Lora, style: Lora, options: MergeOptions) -> Lora:
    """DARE (arXiv 2311.03099), added up."""
    return _merge("dare_linear", content, style, options)


def dare_ties(content: Lora, style: Lora, options: MergeOptions) -> Lora:
    """DARE, then TIES."""
    return _merge("dare_ties", content, style, options)


DENSE: dict[str, Method] = {"ties": ties, "dare": dare, "dare-ties": dare_ties}


@quietly
def _merge(routine: str, content: Lora, style: Lora, options: MergeOptions) -> Lora:
    """Merge each layer's dense differences and factor the result to rank r_c + r_s.

    routine: of `peft.utils.merge_utils`, with the density and seed of `options`.

    Raises LorararError if peft is not installed or the weights are not finite.
    """
    try:
        from peft.utils import merge_utils
    except ImportError as error:
        raise LorararError(
            f"method '{routine}' needs peft; run: pip install 'lorarar[formats]'"
        ) from error
    weights = torch.tensor([options.content_scale, options.style_scale])
    layers = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        for name in track(content.layers | style.layers, description=routine, transient=True):
            pair = [lora.layers.get(name) for lora in (content, style)]
            merged = _merge_layer(
                [_dense(name, lora) if name in lora.layers else None for lora in (content, style)],
                lambda tensors: getattr(merge_utils, routine)(tensors, weights, options.density),
            )
            shape = next(layer for layer in pair if layer)
            rank = sum(layer.rank for layer in pair if layer)
            layers[name] = _factored(merged, rank, like=shape, name=name, pair=(content, style))
    return Lora(layers)


def _merge_layer(
    differences: list[Tensor | None], routine: Callable[[list[Tensor]], Tensor]
) -> Tensor:
    present = next(dw for dw in differences if dw is not None)
    return routine([torch.zeros_like(present) if dw is None else dw for dw in differences])


def _dense(name: str, lora: Lora) -> Tensor:
    layer = lora.layers[name]
    up, down = (widen(np.asarray(factor)).reshape(factor.shape[0], -1) for factor in layer[:2])
    return torch.from_numpy(refuse_bad_weights(np.float32(layer.scale) * (up @ down), name, lora))


def _factored(dw: Tensor, rank: int, *, like: Layer, name: str, pair: tuple[Lora, Lora]) -> Layer:
    rank = min(rank, *dw.shape)
    u, values, v = torch.svd_lowrank(dw, min(rank + SPARE_RANK, *dw.shape), niter=4)
    root = values[:rank].sqrt()
    up, down = u[:, :rank] * root, (v[:, :rank] * root).T
    shapes = (up.shape[0], rank, *like.up.shape[2:]), (rank, *like.down.shape[1:])
    new_up, new_down = (
        refuse_bad_weights(
            narrow(factor.contiguous().numpy(), like.up.dtype).reshape(shape), name, *pair
        )
        for factor, shape in zip((up, down), shapes, strict=True)
    )
    return Layer(new_up, new_down)
