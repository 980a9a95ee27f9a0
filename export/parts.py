"""The parts of an SDXL-class pipeline as modules with named inputs and outputs, ready to trace."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lorarar.artefacts.pipeline import GUIDANCE_INPUT
from lorarar.bases import Shape
from lorarar.diffusion.checkpoint import build, library_defaults, read_json
from lorarar.diffusion.weights import Weights, read_weights, weight_file
from lorarar.errors import LorararError
from lorarar.export.factors import example_factors, factor_names
from lorarar.export.slots import GuidedUNet, SlottedUNet, slotted_projections
from lorarar.export.vae import Decoder, VaeEncoder, affine_of

# Dimension: its name; "height" and "width" are of latents, "rows" and "columns" of pictures.
Axes = dict[int, str]
PART_NAMES = ("unet", "text_encoder", "text_encoder_2", "vae_decoder", "vae_encoder")
ENCODER_CLASSES = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}


@dataclass(frozen=True)
class OpenedModel:
    """A diffusers folder, whose UNet's weights may come from elsewhere.

    identity: of the UNet's weights, a hash or the seed that they are drawn from. variant: of the
    folder's weights, see `weight_variant`.
    """

    folder: Path
    identity: str
    unet_weights: Weights
    variant: str | None = None

    @property
    def index(self) -> dict[str, Any]:
        """Read model_index.json."""
        return read_json(self.folder / "model_index.json")

    def kind(self, part: str) -> str:
        """Name a part's class."""
        return str(self.index[part][1])

    def config(self, part: str) -> dict[str, Any]:
        """Read a part's config.json; what it leaves out is its library's default.

        Raises LorararError if it is missing or damaged.
        """
        return library_defaults(self.kind(part)) | read_json(self.folder / part / "config.json")

    def build(self, part: str) -> Any:
        """Build a part without its weights, to be evaluated only."""
        file = self.folder / part / "config.json"
        return build(self.kind(part), read_json(file), file).eval().requires_grad_(False)

    def weights(self, part: str) -> Weights:
        """Map a part's weights.

        Raises LorararError if there are none.
        """
        if part == "unet":
            return self.unet_weights
        return read_weights(weight_file(self.folder / part, self.variant))


@dataclass(frozen=True, kw_only=True)
class Part:
    """A module that takes `inputs` in order, then a list of its projections' factors, if any.

    core: the submodule that `weights` are named for; inputs: examples by name; axes: each input's
    dynamic dimensions, for exporters that take any; projections: those that take a LoRA's
    factors -> (out, in); constants: buffers that are no weights.
    """

    name: str
    module: nn.Module
    core: str
    weights: Weights
    inputs: dict[str, Tensor]
    outputs: list[str]
    axes: dict[str, Axes] = field(default_factory=dict)
    projections: dict[str, Shape] = field(default_factory=dict)
    constants: dict[str, Callable[[], np.ndarray]] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """What comes before the weights' names in `module`."""
        return f"{self.core}." if self.core else ""

    def load(self) -> nn.Module:
        """Copy the weights into the module, one at a time, in float32.

        Raises LorararError if one is missing or misshapen.
        """
        for name, parameter in self.module.get_submodule(self.core).named_parameters():
            weight = np.asarray(self.weights[name]) if name in self.weights else np.empty(0)
            if weight.shape != parameter.shape:
                raise LorararError(
                    f"{self.name}: weight '{name}' is missing or not {tuple(parameter.shape)}, as "
                    "its config.json wants; get the model again"
                )
            parameter.copy_(torch.from_numpy(weight.astype(np.float32)))
        return self.module

    def loaded(self) -> "Part":
        """Copy a part of the meta device to the CPU, with its weights, to be dropped after use.

        Raises LorararError if one is missing or misshapen.
        """
        copy = replace(self, module=deepcopy(self.module).to_empty(device="cpu"))
        copy.load()
        for name, make in self.constants.items():
            copy.module.get_buffer(name).copy_(torch.from_numpy(make()))
        return copy

    def run(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run a loaded part on its inputs and factors, by name; returns its outputs, by name."""
        inputs = [values[name] for name in self.inputs]
        factors = [values[name] for name in factor_names(self.projections)]
        given = self.module(*inputs, *([factors] if factors else []))
        given = given if isinstance(given, tuple) else (given,)
        return dict(zip(self.outputs, given, strict=True))


def unet_part(model: OpenedModel, batch: int = 2, side: int = 0) -> Part:
    """The UNet with its LoRA slots; side: of the latents, the model's own if 0.

    Raises LorararError if it is of no SDXL-class base.
    """
    config, unet = model.config("unet"), model.build("unet")
    projections = slotted_projections(unet, model.folder)
    side = side or config["sample_size"]
    pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    tokens = model.config("text_encoder")["max_position_embeddings"]
    inputs = {
        "sample": torch.zeros(batch, config["in_channels"], side, side),
        "timestep": torch.zeros(1),
        "encoder_hidden_states": torch.zeros(batch, tokens, config["cross_attention_dim"]),
        "text_embeds": torch.zeros(batch, pooled),
        "time_ids": torch.zeros(batch, 6),
    }
    if config["time_cond_proj_dim"]:
        inputs[GUIDANCE_INPUT] = torch.zeros(batch, config["time_cond_proj_dim"])
    axes: dict[str, Axes] = {
        "sample": {0: "batch", 2: "height", 3: "width"},
        "timestep": {},
        "encoder_hidden_states": {0: "batch", 1: "tokens"},
        "text_embeds": {0: "batch"},
        "time_ids": {0: "batch"},
        GUIDANCE_INPUT: {0: "batch"},
    }
    slotted = GuidedUNet if GUIDANCE_INPUT in inputs else SlottedUNet
    return Part(
        name="unet",
        module=slotted(unet, projections),
        core="unet",
        weights=model.weights("unet"),
        inputs=inputs,
        outputs=["out_sample"],
        axes=axes,
        projections=projections,
    )


def encoder_part(name: str, model: OpenedModel, batch: int = 2) -> Part:
    """A text encoder; gives every hidden state, as SDXL reads the last but one."""
    config = CLIPTextConfig(**model.config(name))
    config.dtype = torch.float32
    encoder = ENCODER_CLASSES[name](config).eval().requires_grad_(False)
    outputs = ("last_hidden_state", "pooler_output")  # diffusers takes what is pooled and first
    if name == "text_encoder_2":
        outputs = ("text_embeds", "last_hidden_state")
    hidden = [f"hidden_states.{index}" for index in range(config.num_hidden_layers)]
    tokens = config.max_position_embeddings
    return Part(
        name=name,
        module=_Encoder(encoder, outputs),
        core="encoder",
        weights=model.weights(name),
        inputs={"input_ids": torch.zeros(batch, tokens, dtype=torch.int64)},
        outputs=[*outputs, *hidden],
        axes={"input_ids": {0: "batch"}},
        constants={"encoder.text_model.embeddings.position_ids": lambda: np.arange(tokens)[None]},
    )


def decoder_part(model: OpenedModel, batch: int = 2, side: int = 0) -> Part:
    """The VAE's decoder, from latents that are divided by the scaling factor already.

    Where the VAE says so, they become what it takes by its latents_std and latents_mean here, so
    that no runtime has to know these.
    """
    vae = model.build("vae")
    side = side or model.config("unet")["sample_size"]
    affine = affine_of(vae)
    return Part(
        name="vae_decoder",
        module=Decoder(vae, affine),
        core="",
        weights=model.weights("vae"),
        inputs={"latent_sample": torch.zeros(batch, vae.config.latent_channels, side, side)},
        outputs=["sample"],
        axes={"latent_sample": {0: "batch", 2: "height", 3: "width"}},
        constants={f"affine.{name}": partial(np.array, value) for name, value in affine.items()},
    )


def vae_encoder_part(model: OpenedModel, batch: int = 2, side: int = 0) -> Part:
    """The VAE's encoder; gives mean and log variance, side by side in the channels.

    They are those of latents as the decoder takes them. An AutoencoderTiny, which knows no
    variance, has a negligible one.
    """
    vae = model.build("vae")
    side = (side or model.config("unet")["sample_size"]) * pixels_per_latent(model)
    affine = affine_of(vae, encoding=True)
    return Part(
        name="vae_encoder",
        module=VaeEncoder(vae, affine),
        core="",
        weights=model.weights("vae"),
        inputs={"sample": torch.zeros(batch, vae.config.in_channels, side, side)},
        outputs=["latent_parameters"],
        axes={"sample": {0: "batch", 2: "rows", 3: "columns"}},
        constants={f"affine.{name}": partial(np.array, value) for name, value in affine.items()},
    )


def build_part(name: str, model: OpenedModel, batch: int = 2, side: int = 0) -> Part:
    """Build the part of this name, one of PART_NAMES; side: of the latents, the model's own if 0.

    Raises LorararError as `unet_part` does, or if a configuration or weights are missing.
    """
    if name in ENCODER_CLASSES:
        return encoder_part(name, model, batch)
    builders = {"unet": unet_part, "vae_decoder": decoder_part, "vae_encoder": vae_encoder_part}
    return builders[name](model, batch, side)


def random_inputs(part: Part, model: OpenedModel) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Draw a part's inputs and small LoRA factors for checking it; seeded."""
    generator = torch.Generator().manual_seed(1)

    def drawn(shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=generator)

    inputs = {name: drawn(example.shape) for name, example in part.inputs.items()}
    if "timestep" in inputs:
        inputs["timestep"] = torch.tensor([500.0])
        inputs["time_ids"] = torch.full_like(inputs["time_ids"], 512.0)
    if "input_ids" in inputs:
        words = model.config(part.name)["vocab_size"]
        shape = inputs["input_ids"].shape
        inputs["input_ids"] = torch.randint(words, shape, generator=generator)
    names = factor_names(part.projections)
    examples = example_factors(part.projections, torch.float32)
    factors = {
        name: drawn(example.shape) * 0.05 for name, example in zip(names, examples, strict=True)
    }
    return inputs, factors


def pixels_per_latent(model: OpenedModel) -> int:
    """How many pixels of a picture, to each side, one latent stands for."""
    config = model.config("vae")
    widths = config.get("decoder_block_out_channels") or config["block_out_channels"]
    return int(2 ** (len(widths) - 1))


def exported_config(model: OpenedModel, part: str) -> dict[str, Any]:
    """Return a part's configuration as it is true of what `build_part` builds."""
    config = read_json(model.folder / part / "config.json")
    if part == "vae":
        widths = list(model.build("vae").config.block_out_channels)
        config |= {"latents_mean": None, "latents_std": None, "block_out_channels": widths}
    return config


class _Encoder(nn.Module):
    def __init__(self, encoder: nn.Module, outputs: tuple[str, str]):
        super().__init__()
        self.encoder, self.outputs = encoder, outputs

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        found = self.encoder(input_ids, output_hidden_states=True)
        return *(found[name] for name in self.outputs), *found.hidden_states[:-1]
