"""An SDXL-class UNet cut into stages, each small enough to be lowered or converted by itself.

A stage is a `Part` whose layers keep the UNet's names. What it computes is named for the layer
that gave it ("down_blocks.1.attentions.0"), so a runtime that keeps arrays by name runs one stage
after another. Two more values have names: "emb", of time and pooled text, and "out_sample".
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from lorarar.artefacts.pipeline import GUIDANCE_INPUT
from lorarar.bases import Shape
from lorarar.diffusion.weights import Weights
from lorarar.errors import LorararError
from lorarar.export.factors import example_factors
from lorarar.export.parts import Part
from lorarar.export.slots import GivenFactors, SlottedLinear

TEXT = "encoder_hidden_states"


def stages_of(whole: Part, attend: Callable[..., Tensor] | None = None) -> list[Part]:
    """Cut what `parts.unet_part` has built for a batch of 1; see `unet_stages`.

    attend: a diffusers attention processor, their own if None.
    """
    slotted: Any = whole.module
    # One of its own, as the stages change its layers.
    unet = UNet2DConditionModel.from_config(slotted.unet.config).eval().requires_grad_(False)
    if attend:
        unet.set_attn_processor(attend)
    return unet_stages(unet, whole.weights, whole.inputs, whole.projections)


def unet_stages(
    unet: Any, weights: Weights, inputs: Mapping[str, Tensor], projections: Mapping[str, Shape]
) -> list[Part]:
    """Cut a diffusers UNet: its embeddings, each resnet with its attention, the middle, the end.

    unet: an SDXL-class UNet2DConditionModel, perhaps on the meta device; the stages share its
    layers. weights: by the UNet's names. inputs: examples of a batch of 1, named as those of
    `parts.unet_part`. projections: of attention -> (out, in); each stage takes the factors of its
    own, shaped as in a canonical LoRA file.

    Raises LorararError if the latents' side is no multiple of what the UNet shrinks it by.
    """
    side, factor = inputs["sample"].shape[-1], 2**unet.num_upsamplers
    if side % factor:
        raise LorararError(f"--side {side}: this UNet's latents need a multiple of {factor}")
    values = dict(inputs)
    stages = []
    for stage, module, takes, gives in _modules(unet, projections):
        own = {name: projections[name] for name in module.projections}
        factors = [zeros.to(unet.device) for zeros in example_factors(own, torch.float32)]
        examples = {value: values[value] for value in takes}
        with torch.no_grad():
            given = module(*examples.values(), *([factors] if own else []))
        values |= zip(gives, given, strict=True)
        stages.append(
            Part(
                name=f"unet.{stage}",
                module=module,
                core="",
                weights=weights,
                inputs=examples,
                outputs=gives,
                projections=own,
            )
        )
    return stages


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Layers that run in order on `hidden`, to which `skip` is joined first.

    gives: layer -> the name of its output, where others need it.
    """

    name: str
    hidden: str
    layers: list[str]
    gives: dict[str, str]
    skip: str | None = None


def _modules(
    unet: Any, projections: Collection[str]
) -> Iterator[tuple[str, Any, list[str], list[str]]]:
    takes = ["sample", "timestep", "text_embeds", "time_ids"]
    if unet.config.time_cond_proj_dim:
        takes.append(GUIDANCE_INPUT)
    yield "embed", Embeddings(unet), takes, ["conv_in", "emb"]
    for stretch in _stretches(unet):
        module = StretchOfUNet(unet, stretch, projections)
        skip = stretch.skip or stretch.hidden
        sources = {"hidden": stretch.hidden, "emb": "emb", "text": TEXT, "skip": skip}
        takes = [sources[name] for name in module.takes]
        yield stretch.name, module, takes, list(stretch.gives.values())


def _stretches(unet: Any) -> Iterator[Stretch]:
    hidden, skips = "conv_in", ["conv_in"]
    for index, block in enumerate(unet.down_blocks):
        for name, layers, sampler in _pairs(f"down_blocks.{index}", block, "downsamplers"):
            kept = [layers[-1], *sampler]
            yield Stretch(
                name=name,
                hidden=hidden,
                layers=layers + sampler,
                gives={layer: layer for layer in kept},
            )
            skips += kept
            hidden = skips[-1]
    if unet.mid_block is not None:
        layers = ["mid_block.resnets.0"]
        if len(unet.mid_block.resnets) > 1:
            layers += ["mid_block.attentions.0", "mid_block.resnets.1"]
        last = layers[-1]
        yield Stretch(name="mid_block", hidden=hidden, layers=layers, gives={last: last})
        hidden = last
    for index, block in enumerate(unet.up_blocks):
        for name, layers, sampler in _pairs(f"up_blocks.{index}", block, "upsamplers"):
            last = [*layers, *sampler][-1]
            yield Stretch(
                name=name,
                hidden=hidden,
                skip=skips.pop(),
                layers=layers + sampler,
                gives={last: last},
            )
            hidden = last
    end = ["conv_norm_out", "conv_act", "conv_out"]
    yield Stretch(name="end", hidden=hidden, layers=end, gives={"conv_out": "out_sample"})


def _pairs(name: str, block: Any, samplers: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Each resnet with its attention, if it has one, and the last with the block's sampler."""
    last = len(block.resnets) - 1
    for index in range(last + 1):
        kinds = ["resnets", "attentions"] if hasattr(block, "attentions") else ["resnets"]
        sampler = [f"{name}.{samplers}.0"] if index == last and getattr(block, samplers) else []
        yield f"{name}.{index}", [f"{name}.{kind}.{index}" for kind in kinds], sampler


class Embeddings(nn.Module):
    """The latents' first convolution, and "emb", (1, time width)."""

    projections: tuple[str, ...] = ()

    def __init__(self, unet: Any):
        super().__init__()
        self.conv_in = unet.conv_in
        self.time_proj, self.time_embedding = unet.time_proj, unet.time_embedding
        self.add_time_proj, self.add_embedding = unet.add_time_proj, unet.add_embedding

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        text_embeds: Tensor,
        time_ids: Tensor,
        timestep_cond: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        times = self.add_time_proj(time_ids.flatten()).reshape(1, -1)
        pooled = self.add_embedding(torch.cat([text_embeds, times], -1))
        time = self.time_embedding(self.time_proj(timestep), timestep_cond)
        return self.conv_in(sample), time + pooled


class StretchOfUNet(nn.Module):
    """A stretch of the UNet. takes: which of hidden, emb, text and skip come, in this order; a
    list of its projections' factors follows, if it has any."""

    def __init__(self, unet: Any, stretch: Stretch, projections: Collection[str]):
        super().__init__()
        self.stretch = stretch
        self.given = GivenFactors()
        for layer in stretch.layers:
            _graft(self, layer, unet.get_submodule(layer))
        kinds = {type(self.get_submodule(layer)) for layer in stretch.layers}
        needs = {"emb": ResnetBlock2D in kinds, "text": Transformer2DModel in kinds}
        needs["skip"] = stretch.skip not in (None, stretch.hidden)  # equal without a mid block
        self.takes = ["hidden", *(name for name, needed in needs.items() if needed)]
        owners = tuple(f"{layer}." for layer in stretch.layers)
        self.projections = [name for name in projections if name.startswith(owners)]
        for name in self.projections:
            projection: Any = self.get_submodule(name)
            self.set_submodule(name, SlottedLinear(projection, name, self.given))

    def forward(self, *arguments: Any) -> tuple[Tensor, ...]:
        values = dict(zip(self.takes, arguments, strict=False))
        if self.projections:
            self.given.take(self.projections, arguments[-1])
        hidden = values["hidden"]
        if self.stretch.skip is not None:
            hidden = torch.cat([hidden, values.get("skip", hidden)], 1)
        kept = []
        for layer in self.stretch.layers:
            module = self.get_submodule(layer)
            if isinstance(module, ResnetBlock2D):
                hidden = module(hidden, values["emb"])
            elif isinstance(module, Transformer2DModel):
                hidden = module(hidden, values["text"], return_dict=False)[0]
            else:
                hidden = module(hidden)
            if layer in self.stretch.gives:
                kept.append(hidden)
        return tuple(kept)


def _graft(root: nn.Module, path: str, layer: nn.Module) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in dict(root.named_children()):
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(name, layer)
