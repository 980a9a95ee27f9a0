"""LoRA slots: the attention projections of a UNet take a LoRA's factors at run time."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from lorarar.artefacts.formats import LARGEST_RANK
from lorarar.artefacts.pipeline import slot_inputs
from lorarar.bases import BASES, SHAPES, Shape, base_of
from lorarar.errors import LorararError

EXAMPLE_RANK = 3


class SlottedUNet(nn.Module):
    """Each attention projection gives W x + up @ (down @ x), its factors being inputs.

    The inputs are named and shaped as in a canonical LoRA file, `unet.<layer>.lora_A.weight`
    (rank, in) and `.lora_B.weight` (out, rank), with alpha and the coefficients m folded in.
    """

    def __init__(self, unet: nn.Module, slots: dict[str, Shape]):
        super().__init__()
        self.unet = unet
        self.given = _Given()
        self.layers = list(slots)
        for name in slots:
            unet.get_submodule(name).register_forward_hook(partial(self.given.add_lora, name))

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        text_embeds: Tensor,
        time_ids: Tensor,
        factors: list[Tensor],
    ) -> Tensor:
        pairs = zip(factors[::2], factors[1::2], strict=True)
        self.given.factors = dict(zip(self.layers, pairs, strict=True))
        about = {"text_embeds": text_embeds, "time_ids": time_ids}
        return self.unet(
            sample, timestep, encoder_hidden_states, added_cond_kwargs=about, return_dict=False
        )[0]


class _Given:
    """What the slots hold during a call; no module, so that tracing does not look inside."""

    factors: dict[str, tuple[Tensor, Tensor]]

    def add_lora(
        self, name: str, layer: nn.Module, inputs: tuple[Tensor], output: Tensor
    ) -> Tensor:
        down, up = (factor.to(output.dtype).transpose(0, 1) for factor in self.factors[name])
        return output + inputs[0] @ down @ up


def slots_of(unet: nn.Module, source: object) -> dict[str, Shape]:
    """Map the attention projections of a diffusers UNet to their shapes (out, in).

    Raises LorararError if these are of no SDXL-class base.
    """
    found: dict[str, Shape] = {
        name: (layer.out_features, layer.in_features)
        for name, layer in unet.named_modules()
        if ".attn" in name and isinstance(layer, nn.Linear)
    }
    base = base_of(found)
    if base is None or len(found) != len(SHAPES[base]):
        raise LorararError(
            f"{source}: its UNet's attention layers fit no SDXL-class base ({', '.join(BASES)})"
        )
    return found


def factor_names(slots: dict[str, Shape]) -> Iterator[str]:
    for name in slots:
        down, up, _ = slot_inputs(name)
        yield from (down, up)


def rank_axis(factor: str) -> int:
    return 0 if ".lora_A." in factor else 1


def example_factors(slots: dict[str, Shape], dtype: torch.dtype) -> list[Tensor]:
    return [
        torch.zeros(shape, dtype=dtype)
        for out, width in slots.values()
        for shape in ((EXAMPLE_RANK, width), (out, EXAMPLE_RANK))
    ]


def trace_slotted(
    module: nn.Module, inputs: Sequence[Tensor], slots: dict[str, Shape], dtype: torch.dtype
) -> torch.export.ExportedProgram:
    """Trace a module that takes `inputs`, of fixed sizes, then, if it has slots, their factors.

    Factors have this dtype and one rank, from 1 to LARGEST_RANK.
    """
    factors = example_factors(slots, dtype)
    shapes = torch.export.ShapesCollection()
    rank = torch.export.Dim("rank", min=1, max=LARGEST_RANK)
    for name, factor in zip(factor_names(slots), factors, strict=True):
        shapes[factor] = {rank_axis(name): rank}
    arguments = (*inputs, factors) if slots else (*inputs,)
    ranks = shapes.dynamic_shapes(module, arguments)
    return torch.export.export(module, arguments, dynamic_shapes=ranks, strict=False)
