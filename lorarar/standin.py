"""Stand-in LoRAs: random weights in a base's true shapes, for demos and latency measurements."""

from pathlib import Path

import numpy as np

from lorarar.bases import BASES, SHAPES
from lorarar.hypernet import Hypernet, save_hypernet
from lorarar.lora import Layer, Lora
from lorarar.save import save_lora

DEVIATION = np.float32(0.02)


def standin_lora(base: str, rank: int, seed: int, dtype: type = np.float16) -> Lora:
    """Return a seeded random LoRA over every attention projection of `base`."""
    generator = np.random.default_rng(seed)

    def factor(*shape: int) -> np.ndarray:
        return (generator.standard_normal(shape, np.float32) * DEVIATION).astype(dtype)

    layers = {
        f"unet.{name}": Layer(factor(out, rank), factor(rank, width))
        for name, (out, width) in SHAPES[base].items()
    }
    return Lora(layers, {"lorarar.standin": f"random weights, {base}, rank {rank}, seed {seed}"})


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
