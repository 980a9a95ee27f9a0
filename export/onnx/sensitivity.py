"""Mixed precision: the layers whose rounding the image feels most stay wider."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from lorarar.diffusion.pipeline import draw, load_pipeline
from lorarar.errors import LorararError
from lorarar.export.onnx.stored import BITS
from lorarar.export.parts import Model
from lorarar.export.report import console
from lorarar.export.rounding import quantise, quantise_filters, restore
from lorarar.numeric import psnr

PROMPTS = [
    "a red cup on grass",
    "a blue house in snow",
    "a green car at night",
    "a yellow fish",
    "a purple tree on sand",
    "a white cat on grass",
    "an orange bird in snow",
    "a black dog on sand",
]
STEPS = 20
TIMES = (100, 500, 900)
WIDER = {"int4": "int8", "int8": "fp16"}


def widen_until(model: Model, wanted: float, width: str) -> dict[str, str]:
    """Choose which layers of the UNet stay wider than `width`: linear ones of "int4" get 8 bits,
    linear ones and convolutions of "int8" 16.

    Each layer is rounded alone, and the error of the UNet's answer measured at three times; layers
    are widened by squared error per weight, as few as will do for every image, after all steps,
    to reach `wanted` dB of PSNR beside the original (torch, float32).

    Raises LorararError if widening all of them does not reach it.
    """
    pipeline = load_pipeline(model.folder)
    kinds = (nn.Linear,) if width == "int4" else (nn.Linear, nn.Conv2d)
    layers = {n: m for n, m in pipeline.unet.named_modules() if isinstance(m, kinds)}
    originals = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    ordered = _by_error_per_weight(pipeline, layers, originals, width)
    target = _pictures(pipeline)

    def reached(count: int) -> float:
        for index, name in enumerate(ordered):
            kept = WIDER[width] if index < count else width
            layers[name].weight.data = _rounded(originals[name], kept)
        return min(map(psnr, _pictures(pipeline), target))

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


def _pictures(pipeline: Any) -> np.ndarray:
    return draw(pipeline, PROMPTS, [*range(len(PROMPTS))], STEPS).numpy()


@torch.no_grad()
def _by_error_per_weight(
    pipeline: Any, layers: dict[str, Any], originals: dict[str, Tensor], width: str
) -> list[str]:
    inputs = list(_calls(pipeline))
    answers = [_answer(pipeline, *call) for call in inputs]
    gains = {}
    for name in track(layers, "rounding each layer alone", console=console, transient=True):
        with _replaced(layers[name], _rounded(originals[name], width)):
            errors = [
                float((_answer(pipeline, *call) - answer).square().sum())
                for call, answer in zip(inputs, answers, strict=True)
            ]
        gains[name] = sum(errors) / originals[name].numel()
    return sorted(gains, key=lambda name: -gains[name])


def _calls(pipeline: Any) -> Iterator[tuple[Tensor, int, Tensor, dict[str, Tensor]]]:
    config = pipeline.unet.config
    count, side = len(PROMPTS), config.sample_size
    hidden, _, pooled, _ = pipeline.encode_prompt(PROMPTS, do_classifier_free_guidance=False)
    pixels = float(side * pipeline.vae_scale_factor)
    times = torch.tensor([[pixels, pixels, 0, 0, pixels, pixels]] * count)
    generator = torch.Generator().manual_seed(0)
    for time in TIMES:
        sample = torch.randn(count, config.in_channels, side, side, generator=generator)
        yield sample, time, hidden, {"text_embeds": pooled, "time_ids": times}


def _answer(pipeline: Any, sample: Tensor, time: int, hidden: Tensor, about: dict) -> Tensor:
    return pipeline.unet(sample, time, hidden, added_cond_kwargs=about).sample


@contextmanager
def _replaced(layer: Any, weight: Tensor) -> Iterator[None]:
    kept = layer.weight.data
    layer.weight.data = weight
    try:
        yield
    finally:
        layer.weight.data = kept


def _rounded(weight: Tensor, width: str) -> Tensor:
    """As `stored` holds it; convolutions have 8 bits at least."""
    if width == "fp16":
        return weight.half().float()
    if weight.ndim == 4:
        filters, scales = quantise_filters(np.asarray(weight))
        return torch.from_numpy(filters * scales.reshape(-1, 1, 1, 1))
    numbers, scales = quantise(np.asarray(weight), BITS[width])
    return torch.from_numpy(restore(numbers, scales, BITS[width], weight.shape[1]))
