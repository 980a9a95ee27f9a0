"""LoRA slots: a UNet's projections give W x + up @ (down @ x), the factors being inputs.

Two forms, for what the exporters can take:

- `SlottedUNet` leaves its layers as they are, so that `onnx.stored.store` may replace them by
  stored ones, and adds to what they give what `diffusion.projections.added_by_lora` computes, as
  `diffusion.two_loras` does for training; for a batch of any size;
- `SlottedLinear` is the layer itself: ExecuTorch would take all that a Linear calls for parts of
  it, so it may have no hook. For a batch of 1, with its own arithmetic: XNNPACK takes products of
  two activations as bmm only.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from lorarar.bases import BASES, SHAPES, Shape, base_of
from lorarar.diffusion.projections import added_by_lora, attention_projections
from lorarar.errors import LorararError


class GivenFactors:
    """The factors (down, up) by projection during a call.

    A plain dictionary would be copied by torch.export; a module's inside would be traced.
    """

    by_projection: dict[str, tuple[Tensor, Tensor]]

    def take(self, projections: Iterable[str], factors: Sequence[Tensor]) -> None:
        """factors: down (rank, in), then up (out, rank), of each projection in turn."""
        pairs = zip(factors[::2], factors[1::2], strict=True)
        self.by_projection = dict(zip(projections, pairs, strict=True))


class SlottedUNet(nn.Module):
    """A UNet with slots on its attention projections, for a batch of any size.

    Its inputs are the UNet's, then the factors of all slots, shaped as in a canonical LoRA file,
    with alpha and the coefficients m folded in.
    """

    def __init__(self, unet: nn.Module, projections: Iterable[str]):
        super().__init__()
        self.unet = unet
        self.projections = list(projections)
        self.given = GivenFactors()

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        text_embeds: Tensor,
        time_ids: Tensor,
        factors: list[Tensor],
    ) -> Tensor:
        return self._run(
            factors, sample, timestep, encoder_hidden_states, text_embeds, time_ids, None
        )

    def _run(
        self,
        factors: list[Tensor],
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        text_embeds: Tensor,
        time_ids: Tensor,
        timestep_cond: Tensor | None,
    ) -> Tensor:
        self.given.take(self.projections, factors)
        about = {"text_embeds": text_embeds, "time_ids": time_ids}
        with ExitStack() as hooks:
            for name in self.projections:
                layer = self.unet.get_submodule(name)
                hooks.enter_context(layer.register_forward_hook(partial(self._add_lora, name)))
            output: Tensor = self.unet(
                sample,
                timestep,
                encoder_hidden_states,
                timestep_cond=timestep_cond,
                added_cond_kwargs=about,
                return_dict=False,
            )[0]
        return output

    def _add_lora(
        self, name: str, layer: nn.Module, inputs: tuple[Tensor], output: Tensor
    ) -> Tensor:
        return output + added_by_lora(inputs[0], *self.given.by_projection[name])


class GuidedUNet(SlottedUNet):
    """The same of a UNet that was distilled with its guidance, and takes an embedding of it."""

    def forward(  # type: ignore[override]  # an input more
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        text_embeds: Tensor,
        time_ids: Tensor,
        timestep_cond: Tensor,
        factors: list[Tensor],
    ) -> Tensor:
        return self._run(
            factors, sample, timestep, encoder_hidden_states, text_embeds, time_ids, timestep_cond
        )


class SlottedLinear(nn.Linear):
    """A projection with a slot, whose factors are in `given` during a call, for a batch of 1."""

    def __init__(self, layer: nn.Linear, name: str, given: GivenFactors):
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, "meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.name, self.given = name, given

    def forward(self, input: Tensor) -> Tensor:
        down, up = (
            factor.to(input.dtype).reshape(1, *factor.shape).mT
            for factor in self.given.by_projection[self.name]
        )
        return super().forward(input) + torch.bmm(torch.bmm(input, down), up)


def slotted_projections(unet: nn.Module, source: object) -> dict[str, Shape]:
    """Map a diffusers UNet's attention projections, without "unet.", to their shapes (out, in).

    Raises LorararError if these are of no SDXL-class base.
    """
    found = attention_projections(unet)
    base = base_of(found)
    if base is None or len(found) != len(SHAPES[base]):
        raise LorararError(
            f"{source}: its UNet's attention layers fit no SDXL-class base ({', '.join(BASES)})"
        )
    return found
