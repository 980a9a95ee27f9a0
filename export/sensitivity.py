"""Mixed precision: the layers whose rounding the image feels most stay wider."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from lorarar.errors import LorararError
from lorarar.export.artefact import console
from lorarar.export.blocks import quantise, restore
from lorarar.export.parts import Model
from lorarar.numeric import psnr
from lorarar.pipeline import draw, load_pipeline

PROMPTS = ["a red cup on grass", "a blue house in snow", "a green car at night", "a yellow fish"]
STEPS = 20
TIMES = (100, 500, 900)


def widen_until(model: Model, wanted: float) -> dict[str, str]:
    """Choose which linear layers of the UNet have 8 bits, the others having 4.

    Each layer is rounded to 4 bits alone, and the error of the UNet's answer measured at three
    times; layers are widened by squared error per byte saved, as few as will do for images, after
    all steps, to reach `wanted` dB of PSNR beside the original (torch, float32).

    Raises LorararError if 8 bits everywhere do not reach it.
    """
    pipeline = load_pipeline(model.folder)
    layers = {n: m for n, m in pipeline.unet.named_modules() if isinstance(m, nn.Linear)}
    originals = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    ordered = _by_error_per_byte(pipeline, layers, originals)
    target = draw(pipeline, PROMPTS, [*range(len(PROMPTS))], STEPS).numpy()

    def reached(count: int) -> float:
        for index, name in enumerate(ordered):
            layers[name].weight.data = _rounded(originals[name], 8 if index < count else 4)
        return psnr(draw(pipeline, PROMPTS, [*range(len(PROMPTS))], STEPS).numpy(), target)

    low, high = 0, len(ordered)
    best = reached(high)
    if best < wanted:
        raise LorararError(
            f"--psnr {wanted:g}: {best:.1f} dB is all that 8 bits everywhere reach; ask for less"
        )
    while low < high:
        middle = (low + high) // 2
        if reached(middle) < wanted:
            low = middle + 1
        else:
            high = middle
    console.print(f"{high} of {len(ordered)} linear layers in 8 bits, the others in 4")
    return {name: "int8" for name in ordered[:high]}


@torch.no_grad()
def _by_error_per_byte(
    pipeline: Any, layers: dict[str, nn.Linear], originals: dict[str, Tensor]
) -> list[str]:
    inputs = list(_calls(pipeline))
    answers = [_answer(pipeline, *call) for call in inputs]
    gains = {}
    for name in track(layers, "rounding each layer alone", console=console, transient=True):
        with _replaced(layers[name], _rounded(originals[name], 4)):
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
def _replaced(layer: nn.Linear, weight: Tensor) -> Iterator[None]:
    kept = layer.weight.data
    layer.weight.data = weight
    try:
        yield
    finally:
        layer.weight.data = kept


def _rounded(weight: Tensor, bits: int) -> Tensor:
    numbers, scales = quantise(np.asarray(weight), bits)
    return torch.from_numpy(restore(numbers, scales, bits, weight.shape[1]))
