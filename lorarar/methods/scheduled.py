"""Methods that weigh both LoRAs anew at each step, from their factors alone; torch-free."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

import numpy as np

from lorarar.lora import Lora
from lorarar.merge import weighted_sum
from lorarar.methods.factors import matrix_factors, widest
from lorarar.methods.options import MergeOptions
from lorarar.numeric import quietly
from lorarar.parallel import cores, side_by_side

Schedule = Callable[[str, float], tuple[float, float]]
"""Of a layer ('unet.' included), at a share of the steps done, in [0, 1): what the content and the
style LoRA's difference there are multiplied by."""

ALPHA = 1.5  # K-LoRA's and EST-LoRA's: how fast the bar rises for the content LoRA
BETA = 0.5  # K-LoRA's: where it begins


@dataclass(frozen=True)
class Turns:
    """Each layer draws with the content LoRA until a share of the steps is done, then the style's.

    until: layer -> share; below 0 the style LoRA draws from the first step on, above 1 never.

    >>> turns = Turns({"unet.a": 0.5})
    >>> turns("unet.a", 0.25), turns("unet.a", 0.5)
    ((1.0, 0.0), (0.0, 1.0))
    """

    until: Mapping[str, float]

    def __call__(self, layer: str, done: float) -> tuple[float, float]:
        """Return the content and the style LoRA's coefficient; see `Schedule`."""
        return (1.0, 0.0) if done < self.until[layer] else (0.0, 1.0)


def klora(content: Lora, style: Lora, options: MergeOptions) -> Turns:
    """K-LoRA (arXiv 2502.18461): a layer takes the LoRA whose largest entries weigh more.

    The content LoRA while the sum of the K = r_c r_s largest |dW_c|, over that of |dW_s|, is above
    gamma (1.5 t + 0.5) after the share t of the steps; gamma is the ratio of the summed |dW_c| and
    |dW_s| of all layers. Builds the dense dW, one layer per core at a time.

    Raises LorararError if the LoRAs do not fit together or weights are not finite.
    """
    weighted_sum(content, style, {})  # refuses LoRAs that do not fit together
    ranks = [{name: layer.rank for name, layer in lora.layers.items()} for lora in (content, style)]
    kept = {name: ranks[0].get(name, 1) * ranks[1].get(name, 1) for name in ranks[0] | ranks[1]}
    return _turns(*(_top_shares(lora, kept) for lora in (content, style)), start=BETA)


def est(content: Lora, style: Lora, options: MergeOptions) -> Turns:
    """EST-LoRA (arXiv 2508.02165): as K-LoRA, by each difference's energy |dW|^2, from the factors.

    The content LoRA while |dW_c|^2 / |dW_s|^2 is above gamma (1.5 t + `options.discrepancy`) after
    the share t of the steps; gamma is here the ratio of both LoRAs' energies in all layers. In
    O(r^2 (out + in)) per layer; no dW is built.

    Raises LorararError if the LoRAs do not fit together or weights are not finite.
    """
    weighted_sum(content, style, {})  # refuses LoRAs that do not fit together
    return _turns(*map(_energy_shares, (content, style)), start=options.discrepancy)


ScheduledName = Literal["klora", "est"]
SCHEDULED: dict[ScheduledName, Callable[[Lora, Lora, MergeOptions], Schedule]] = {
    "klora": klora,
    "est": est,
}


def _turns(content: dict[str, float], style: dict[str, float], *, start: float) -> Turns:
    """When the bar, start + ALPHA t, reaches each layer's content share over its style share."""
    until = {}
    for name in content | style:
        one, other = content.get(name, 0.0), style.get(name, 0.0)
        until[name] = ((one / other if other else inf) - start) / ALPHA
    return Turns(until)


def _top_shares(lora: Lora, kept: Mapping[str, int]) -> dict[str, float]:
    """Layer -> sum of its so many largest |dW|, over the sum of |dW| in all layers."""

    @quietly
    def sums(name: str) -> tuple[float, float]:
        up, down = matrix_factors(name, lora)
        sizes = np.abs(up @ down).ravel()
        most = min(kept[name], sizes.size)
        largest = np.partition(sizes, sizes.size - most)[sizes.size - most :]
        return float(largest.sum()), float(sizes.sum())

    found = side_by_side(sums, list(lora.layers), cores(), widest(lora))
    total = sum(every for _, every in found.values()) or 1.0
    return {name: top / total for name, (top, _) in found.items()}


def _energy_shares(lora: Lora) -> dict[str, float]:
    """Layer -> its |dW|^2 = sum((up^T up) * (down down^T)), over that of all layers."""

    @quietly
    def energy(name: str) -> float:
        up, down = matrix_factors(name, lora)
        return float(np.vdot(up.T @ up, down @ down.T))

    found = side_by_side(energy, list(lora.layers), cores(), widest(lora))
    total = sum(found.values()) or 1.0
    return {name: each / total for name, each in found.items()}
