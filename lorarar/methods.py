"""Ways to merge, behind one call: plain functions of one signature, picked from `METHODS`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lorarar.errors import LorararError
from lorarar.hypernet import Hypernet
from lorarar.lora import Lora
from lorarar.merge import coefficients, reduce_rank, weighted_sum


@dataclass(frozen=True)
class MergeOptions:
    """What merge methods may ask for.

    density: share of weights that TIES and DARE keep. model: the base model that ZipLoRA asks, in
    this precision: "no" (float32), "bf16" or "fp16".
    """

    hypernet: Hypernet | None = None
    content_scale: float = 1.0
    style_scale: float = 1.0
    density: float = 0.5
    seed: int = 0
    model: str | Path | None = None
    precision: str = "no"


def merge(content: Lora, style: Lora, method: str = "lorarar", **options: Any) -> Lora:
    """Merge two LoRAs of one base model; see `METHODS` and `MergeOptions`.

    Raises LorararError for an unknown method or LoRAs that do not fit together.
    """
    if method not in METHODS:
        raise LorararError(f"method '{method}' is unknown; use one of {', '.join(METHODS)}")
    return METHODS[method](content, style, MergeOptions(**options))


def lorarar(content: Lora, style: Lora, options: MergeOptions) -> Lora:
    """LoRA.rar: coefficients from the hypernetwork (arXiv 2412.05148). Rank r_c + r_s, exact."""
    if options.hypernet is None:
        bases = {lora.base for lora in (content, style)} - {None}
        raise LorararError(
            "method 'lorarar' needs --hypernet: a LoRA.rar checkpoint for "
            f"{' or '.join(map(str, bases)) or 'this base model'}: get one from the authors (SDXL, "
            "KOALA-700M) or train one; without one use --method direct or linear"
        )
    m = coefficients(content, style, options.hypernet)
    return weighted_sum(content, style, m, options.content_scale, options.style_scale)


def direct(content: Lora, style: Lora, options: MergeOptions) -> Lora:
    """The sum of both differences, m = 1. Rank r_c + r_s, exact."""
    return weighted_sum(content, style, {}, options.content_scale, options.style_scale)


def linear(content: Lora, style: Lora, options: MergeOptions) -> Lora:
    """The mean of both differences, m = 1/2. Rank r_c + r_s, exact."""
    return weighted_sum(content, style, {}, options.content_scale / 2, options.style_scale / 2)


def svd(content: Lora, style: Lora, options: MergeOptions) -> Lora:
    """The best approximation of the sum at the larger LoRA's rank (peft's "svd", without dW)."""
    rank = max(layer.rank for lora in (content, style) for layer in lora.layers.values())
    return reduce_rank(direct(content, style, options), rank)[0]


def _dense(routine: str, content: Lora, style: Lora, options: MergeOptions) -> Lora:
    from lorarar.dense import merge_dense

    return merge_dense(routine, content, style, options)


def ziplora(content: Lora, style: Lora, options: MergeOptions) -> Lora:
    """ZipLoRA: coefficients optimised for this pair, in minutes (arXiv 2311.13600)."""
    from lorarar.training.ziplora import ziplora

    return ziplora(content, style, options)


METHODS: dict[str, Callable[[Lora, Lora, MergeOptions], Lora]] = {
    "lorarar": lorarar,
    "direct": direct,
    "linear": linear,
    "svd": svd,
    "ties": partial(_dense, "ties"),
    "dare": partial(_dense, "dare_linear"),
    "dare-ties": partial(_dense, "dare_ties"),
    "ziplora": ziplora,
}
