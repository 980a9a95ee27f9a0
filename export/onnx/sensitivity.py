"""Mixed precision: the layers whose quantising changes the picture most stay wider."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from lorarar.command import console
from lorarar.diffusion.pipeline import draw, load_pipeline
from lorarar.errors import LorararError
from lorarar.export.onnx.quantise import dequantise, quantise, quantise_filters
from lorarar.export.onnx.stored import NUMBER_BITS, StoredAs
from lorarar.export.parts import OpenedModel
from lorarar.numeric import psnr

STEPS = 20
TIMESTEPS = (100, 500, 900)
Widened = Literal["int8", "int4"]
WIDER: dict[Widened, StoredAs] = {"int4": "int8", "int8": "fp16"}


@dataclass(frozen=True)
class UNetCall:
    """What a diffusers UNet is given at one timestep."""

    sample: Tensor
    timestep: int
    hidden: Tensor
    about: dict[str, Tensor]


def choose_wider_layers(
    model: OpenedModel, width: Widened, wanted: float, prompts: Sequence[str]
) -> dict[str, StoredAs]:
    """Map those of the UNet's layers that need more than `width` to the next width.

    Of "int4" linear layers get 8 bits, of "int8" linear layers and convolutions 16. Each layer is
    quantised alone, and the error of the model output measured at three timesteps; layers are
    widened by squared error per weight, as few as will do for every prompt's picture, after all
    steps, to reach `wanted` dB of PSNR beside the original (torch, float32).

    Raises LorararError if widening all of them does not reach it.
    """
    pipeline = load_pipeline(model.folder)
    kinds = (nn.Linear,) if width == "int4" else (nn.Linear, nn.Conv2d)
    layers = {n: m for n, m in pipeline.unet.named_modules() if isinstance(m, kinds)}
    originals = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    ordered = _by_error_per_weight(pipeline, prompts, layers, width)
    target = _pictures(pipeline, prompts)

    def reached(count: int) -> float:
        for index, name in enumerate(ordered):
            stored_as = WIDER[width] if index < count else width
            layers[name].weight.data = _as_stored(originals[name], stored_as)
        return min(map(psnr, _pictures(pipeline, prompts), target))

    low, high = 0, len(ordered)
    best = reached(high)
    if best < wanted:
        raise LorararError(
            f"--psnr {wanted:g}: {best:.1f} dB is all that {WIDER[width]} everywhere reaches; "
            "ask for less"
        )
    while low < high:
        middle = (low + high) // 2
        if reached(middle) < wanted:
            low = middle + 1
        else:
            high = middle
    console.print(f"{high} of {len(ordered)} layers in {WIDER[width]}, the others in {width}")
    return dict.fromkeys(ordered[:high], WIDER[width])


def _pictures(pipeline: Any, prompts: Sequence[str]) -> np.ndarray:
    return draw(pipeline, [*prompts], [*range(len(prompts))], STEPS).numpy()


@torch.no_grad()
def _by_error_per_weight(
    pipeline: Any, prompts: Sequence[str], layers: dict[str, Any], width: StoredAs
) -> list[str]:
    calls = list(_calls(pipeline, prompts))
    outputs = [_model_output(pipeline.unet, call) for call in calls]
    errors_per_weight = {}
    for name in track(layers, "quantising each layer alone", console=console, transient=True):
        weight = layers[name].weight
        with _replaced(layers[name], _as_stored(weight.detach(), width)):
            errors = [
                float((_model_output(pipeline.unet, call) - output).square().sum())
                for call, output in zip(calls, outputs, strict=True)
            ]
        errors_per_weight[name] = sum(errors) / weight.numel()
    return sorted(errors_per_weight, key=lambda name: -errors_per_weight[name])


def _calls(pipeline: Any, prompts: Sequence[str]) -> Iterator[UNetCall]:
    config = pipeline.unet.config
    count, side = len(prompts), config.sample_size
    hidden, _, pooled, _ = pipeline.encode_prompt([*prompts], do_classifier_free_guidance=False)
    pixels = float(side * pipeline.vae_scale_factor)
    sizes = torch.tensor([[pixels, pixels, 0, 0, pixels, pixels]] * count)
    generator = torch.Generator().manual_seed(0)
    for timestep in TIMESTEPS:
        sample = torch.randn(count, config.in_channels, side, side, generator=generator)
        yield UNetCall(sample, timestep, hidden, {"text_embeds": pooled, "time_ids": sizes})


def _model_output(unet: Any, call: UNetCall) -> Tensor:
    output: Tensor = unet(
        call.sample, call.timestep, call.hidden, added_cond_kwargs=call.about
    ).sample
    return output


@contextmanager
def _replaced(layer: Any, weight: Tensor) -> Iterator[None]:
    kept = layer.weight.data
    layer.weight.data = weight
    try:
        yield
    finally:
        layer.weight.data = kept


def _as_stored(weight: Tensor, width: StoredAs) -> Tensor:
    """What is left of a weight in `onnx.stored`, where convolutions have 8 bits at least."""
    if width == "fp16":
        return weight.half().float()
    if weight.ndim == 4:
        filters, scales = quantise_filters(np.asarray(weight))
        return torch.from_numpy(filters * scales.reshape(-1, 1, 1, 1))
    numbers, scales = quantise(np.asarray(weight), NUMBER_BITS[width])
    return torch.from_numpy(dequantise(numbers, scales, NUMBER_BITS[width], weight.shape[1]))
