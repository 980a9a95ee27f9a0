"""What a pass of a base's UNet costs, counted on torch's meta device, without its weights."""

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from lorarar.bases import BASES, unet_config
from lorarar.benchmarks.forms import Cost

TOKENS = 77
FLOAT16_BYTES = 2
LATENT_CHANNELS = {"mini": 8}


@dataclass(frozen=True)
class PassCost:
    """One pass of a UNet, for one picture.

    weights: parameters, read once; activations: elements of all inputs and outputs of its layers,
    each read or written once; projected: sum over attention projections of tokens * (in + out),
    which a LoRA multiplies by its rank; factors: sum of (in + out), its elements by rank.
    """

    flop: float
    weights: int
    activations: int
    projected: int
    factors: int

    def cost(self, weight_bits: float, passes: int = 2, rank: int = 0) -> Cost:
        """Return the cost of a step of `passes` passes, which read the weights once.

        rank: of both LoRAs of a pair together, in float16; activations are float16.
        """
        flop = passes * (self.flop + 2 * rank * self.projected)
        moved = self.weights * weight_bits / 8 + rank * self.factors * FLOAT16_BYTES
        return Cost(flop / 1e9, (moved + passes * self.activations * FLOAT16_BYTES) / 1e9)


@cache
def count_pass(base: str, side: int) -> PassCost:
    """Count a pass on latents of `side` x `side` cells.

    >>> round(count_pass("sdxl", 128).flop / 1e12, 1)  # 1024 pixels
    6.8
    """
    about, channels = BASES[base], LATENT_CHANNELS.get(base, 4)
    moved = projected = factors = 0

    def watch(module: Any, given: tuple, found: torch.Tensor) -> None:
        nonlocal moved
        moved += sum(each.numel() for each in given if isinstance(each, torch.Tensor))
        moved += found.numel()

    def watch_projection(module: Any, given: tuple, found: torch.Tensor) -> None:
        nonlocal projected, factors
        size = module.in_features + module.out_features
        projected += prod(given[0].shape[:-1]) * size
        factors += size

    with torch.device("meta"), torch.no_grad():
        config = unet_config(about) | {"in_channels": channels, "out_channels": channels}
        unet: Any = UNet2DConditionModel(sample_size=side, **config)
        for name, module in unet.named_modules():
            if not any(module.children()):
                module.register_forward_hook(watch)
            if ".attn" in name and isinstance(module, torch.nn.Linear):
                module.register_forward_hook(watch_projection)
        conditions = {
            "text_embeds": torch.empty(1, about.pooled),
            "time_ids": torch.empty(1, 6),
        }
        with FlopCounterMode(display=False) as counter:
            unet(
                torch.empty(1, channels, side, side),
                torch.empty(1),
                torch.empty(1, TOKENS, about.cross_attention),
                added_cond_kwargs=conditions,
            )
    weights = sum(weight.numel() for weight in unet.parameters())
    return PassCost(counter.get_total_flops(), weights, moved, projected, factors)
