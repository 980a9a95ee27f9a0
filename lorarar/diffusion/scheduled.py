"""Draw with coefficients of both LoRAs that change from step to step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline

from lorarar.diffusion.two_loras import PairedLinear, carrying
from lorarar.lora import Lora
from lorarar.methods.scheduled import Schedule


@contextmanager
def scheduled(
    pipeline: StableDiffusionXLPipeline,
    content: Lora,
    style: Lora,
    schedule: Schedule,
    content_scale: float = 1.0,
    style_scale: float = 1.0,
) -> Iterator[dict[str, Any]]:
    """Within this context, calls of the pipeline with these arguments added draw by `schedule`.

    Each layer adds dW_c and dW_s times both scales and what the schedule says at each step.
    """
    scales = content_scale, style_scale
    with carrying(pipeline.unet, content, style) as carried:
        paired = {
            name: layer
            for name, layer in carried.items()
            if name in content.layers or name in style.layers
        }
        weigh(paired, schedule, 0.0, scales)

        def after_step(pipe: Any, index: int, time: Any, state: dict) -> dict:
            done = (index + 1) / pipe.num_timesteps
            weigh(paired, schedule, done if done < 1 else 0.0, scales)  # for the next picture
            return {}

        yield {"callback_on_step_end": after_step}


def weigh(
    paired: Mapping[str, PairedLinear],
    schedule: Schedule,
    done: float,
    scales: tuple[float, float],
) -> None:
    """Set each layer's coefficients after the share `done` of the steps."""
    for name, layer in paired.items():
        weights = [
            scale * weight for scale, weight in zip(scales, schedule(name, done), strict=True)
        ]
        layer.m = torch.tensor(weights, device=layer.linear.weight.device)[:, None]
        layer.mode = "merged"
