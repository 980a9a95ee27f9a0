"""Methods in factored form, torch-free: what a device can do, too."""

from typing import Literal

from lorarar.errors import LorararError
from lorarar.lora import Lora
from lorarar.merge import Coefficients, coefficients, reduce_rank, weighted_sum
from lorarar.methods.null_space import null_space
from lorarar.methods.options import MergeOptions, Method


def lorarar(content: Lora, style: Lora, options: MergeOptions) -> Lora:
    """LoRA.rar: coefficients from the hypernetwork (arXiv 2412.05148). Rank r_c + r_s, exact."""
    m = predicted(content, style, options)
    return weighted_sum(content, style, m, options.content_scale, options.style_scale)


def predicted(content: Lora, style: Lora, options: MergeOptions) -> Coefficients:
    """Return the coefficients that the options' hypernetwork predicts.

    Raises LorararError if there is none, or as `lorarar.merge.coefficients` does.
    """
    if options.hypernet is None:
        bases = {lora.base for lora in (content, style)} - {None}
        raise LorararError(
            "method 'lorarar' needs --hypernet: a LoRA.rar checkpoint for "
            f"{' or '.join(map(str, bases)) or 'this base model'}: get one from the authors (SDXL, "
            "KOALA-700M) or train one; without one use --method direct or linear"
        )
    return coefficients(content, style, options.hypernet)


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


FactoredName = Literal["lorarar", "direct", "linear", "svd", "np"]
FACTORED: dict[str, Method] = {
    "lorarar": lorarar,
    "direct": direct,
    "linear": linear,
    "svd": svd,
    "np": null_space,
}
