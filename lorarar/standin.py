"""Stand-in LoRAs: random weights in a base's true shapes, for demos and latency measurements."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from lorarar.bases import BASES, SHAPES, Shape
from lorarar.hypernet import Hypernet, save_hypernet
from lorarar.lora import Layer, Lora
from lorarar.save import save_lora

BaseName = Literal["sdxl", "ssd-1b", "vega", "koala-1b", "koala-700m", "mini"]  # of `BASES`
DEVIATION = np.float32(0.02)


def standin_lora(base: str, rank: int, seed: int, dtype: type = np.float16) -> Lora:
    """Return a seeded random LoRA over every attention projection of `base`."""
    about = f"random weights, {base}, rank {rank}, seed {seed}"
    return Lora(standin_layers(SHAPES[base], rank, seed, dtype), {"lorarar.standin": about})


def standin_layers(
    shapes: Mapping[str, Shape], rank: int, seed: int, dtype: type = np.float16
) -> dict[str, Layer]:
    """Return seeded random layers for projections of these shapes (out, in)."""
    generator = np.random.default_rng(seed)

    def factor(*shape: int) -> np.ndarray:
        return (generator.standard_normal(shape, np.float32) * DEVIATION).astype(dtype)

    return {
        f"unet.{name}": Layer(factor(out, rank), factor(rank, width))
        for name, (out, width) in shapes.items()
    }


def write_standins(folder: Path, base: str, rank: int) -> tuple[tuple[Path, Path], Path]:
    """Write two seeded stand-in LoRAs and an untrained hypernetwork; return their paths."""
    content, style, hypernet = (
        folder / f"{name}.safetensors"
        for name in ("standin-content", "standin-style", "untrained-hypernet")
    )
    save_lora(standin_lora(base, rank, seed=1), content)
    save_lora(standin_lora(base, rank, seed=2), style)
    save_hypernet(Hypernet.random(BASES[base].widths), hypernet)
    return (content, style), hypernet
