"""Stand-in LoRAs: random weights in a base's true shapes, for demos and latency measurements."""

import torch

from lorarar.bases import BASES, attention_shapes
from lorarar.lora import Layer, Lora


def standin_lora(base: str, rank: int, seed: int, dtype: torch.dtype = torch.float16) -> Lora:
    """Return a seeded random LoRA over every attention projection of `base`."""
    generator = torch.Generator().manual_seed(seed)
    layers = {
        f"unet.{name}": Layer(
            (torch.randn(out, rank, generator=generator) * 0.02).to(dtype),
            (torch.randn(rank, width, generator=generator) * 0.02).to(dtype),
        )
        for name, (out, width) in attention_shapes(BASES[base]).items()
    }
    return Lora(layers, {"lorarar.standin": f"random weights, {base}, rank {rank}, seed {seed}"})
