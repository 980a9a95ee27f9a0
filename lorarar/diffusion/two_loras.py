"""A UNet that carries two LoRAs side by side, to be used one at a time or merged."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lorarar.bases import Shape
from lorarar.diffusion.projections import added_by_lora, attention_projections
from lorarar.errors import LorararError
from lorarar.lora import Layer, Lora

TorchFactors = tuple[Tensor, Tensor]
Mode = Literal["none", "content", "style", "merged"]


class Pair(NamedTuple):
    """One layer's two LoRAs, each as (up (out, rank), down (rank, in)), scales folded into up."""

    content: TorchFactors
    style: TorchFactors


class PairedLinear(nn.Module):
    """A frozen projection W with two LoRAs: W x, plus what `mode` asks for.

    "content" and "style" add that LoRA alone, "merged" both, their inputs scaled by the columns'
    coefficients m, (2, in), or as they are without any. "none" adds nothing.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.pair: Pair
        self.m: Tensor | None = None
        self.mode: Mode = "none"

    def forward(self, x: Tensor) -> Tensor:
        """Map x, (..., in), to (..., out)."""
        result = self.linear(x)
        for side, role in enumerate(Pair._fields):
            if self.mode not in (role, "merged"):
                continue
            up, down = self.pair[side]
            scaled = x if self.m is None or self.mode == role else x * self.m[side].to(x.dtype)
            result = result + added_by_lora(scaled, down, up)
        return result


def pair_up(unet: Any, names: list[str]) -> dict[str, PairedLinear]:
    """Replace each named projection ('unet.' included) by a `PairedLinear`; return them by name."""
    paired = {}
    for name in names:
        path = name.removeprefix("unet.")
        parent, _, child = path.rpartition(".")
        paired[name] = PairedLinear(unet.get_submodule(path))
        setattr(unet.get_submodule(parent), child, paired[name])
    return paired


def unpair(unet: Any, paired: Mapping[str, PairedLinear]) -> None:
    """Undo `pair_up`."""
    for name, layer in paired.items():
        parent, _, child = name.removeprefix("unet.").rpartition(".")
        setattr(unet.get_submodule(parent), child, layer.linear)


@contextmanager
def carrying(unet: Any, content: Lora, style: Lora) -> Iterator[dict[str, PairedLinear]]:
    """Within this context the UNet's attention projections carry both LoRAs; gives them by name.

    Raises LorararError if a LoRA has layers that the UNet has not.
    """
    shapes = lora_shapes(unet)
    pairs = pairs_of(*(torch_factors(lora, shapes, unet.device) for lora in (content, style)))
    paired = pair_up(unet, list(shapes))
    carry(paired, pairs)
    try:
        yield paired
    finally:
        unpair(unet, paired)


def lora_shapes(unet: Any) -> dict[str, Shape]:
    """Map each layer that a LoRA may have ('unet.' included) to its shape (out, in)."""
    return {f"unet.{name}": shape for name, shape in attention_projections(unet).items()}


def torch_factors(
    lora: Lora, shapes: Mapping[str, Shape], device: torch.device
) -> dict[str, TorchFactors]:
    """Return each projection's factors in float32, of rank 0 where the LoRA has none.

    Raises LorararError if the LoRA has layers that are no projection of this shape.
    """
    for name, layer in lora.layers.items():
        if shapes.get(name) != layer.shape:
            raise LorararError(
                f"{lora.source}: layer '{name}' is {layer.shape[0]}x{layer.shape[1]}, but this "
                f"model has {shapes.get(name, 'no such attention projection')}; "
                "give a LoRA of its attention layers"
            )
    return {
        name: _factors(lora.layers[name], device)
        if name in lora.layers
        else (torch.zeros(out, 0, device=device), torch.zeros(0, width, device=device))
        for name, (out, width) in shapes.items()
    }


def _factors(layer: Layer, device: torch.device) -> TorchFactors:
    up, down = (torch.from_numpy(np.array(part, np.float32)).to(device) for part in layer[:2])
    return up.mul_(layer.scale), down


def pairs_of(
    content: Mapping[str, TorchFactors], style: Mapping[str, TorchFactors]
) -> dict[str, Pair]:
    """Pair the factors of each layer, as `torch_factors` gives them."""
    return {name: Pair(factors, style[name]) for name, factors in content.items()}


def carry(paired: Mapping[str, PairedLinear], pairs: Mapping[str, Pair]) -> None:
    """Put a pair of LoRAs in."""
    for name, layer in paired.items():
        layer.pair, layer.m = pairs[name], None


def use(
    paired: Mapping[str, PairedLinear], mode: Mode, m: Mapping[str, Tensor] | None = None
) -> None:
    """Set every layer's mode and coefficients."""
    for name, layer in paired.items():
        layer.mode, layer.m = mode, (m or {}).get(name)
