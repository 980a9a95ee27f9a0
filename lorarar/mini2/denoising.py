"""Noise and its removal, for many pictures at a time: SDXL's schedule, Euler's method."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorarar.diffusion.assemble import make_scheduler
from lorarar.mini2.machine import DEVICE, autocast
from lorarar.mini2.model import LATENT_CHANNELS, LATENTS

TIMES = 1000
STEPS, GUIDANCE = 20, 5.0
GAMMA = 5.0  # min-SNR weights, arXiv 2303.09556


def kept_shares() -> Tensor:
    """What is left of the clean latents' power at each time, (1000,)."""
    return make_scheduler().alphas_cumprod.to(DEVICE)


def noisy(latents: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return noisy latents, their times (n,), the noise, and min-SNR weights (n,).

    Each time is uniform, and those of a batch are spread evenly (arXiv 2107.00630).
    """
    count = len(latents)
    spread = (torch.rand(count, device=DEVICE).argsort() + torch.rand((), device=DEVICE)) / count
    times = (spread * TIMES).long().clamp(max=TIMES - 1)
    noise = torch.randn_like(latents)
    share = kept[times]
    shape = (-1, 1, 1, 1)
    mixed = share.sqrt().view(shape) * latents + (1 - share).sqrt().view(shape) * noise
    ratio = share / (1 - share)
    return mixed, times, noise, ratio.clamp(max=GAMMA) / ratio


def starts(seeds: list[int]) -> Tensor:
    """Noise of each seed, (n, 8, 16, 16), the same on every machine."""
    shape = (LATENT_CHANNELS, LATENTS, LATENTS)
    drawn = [np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(drawn)).to(DEVICE)


@torch.no_grad()
def sample(
    model: Any,
    words: Tensor,
    pooled: Tensor,
    empty: tuple[Tensor, Tensor],
    noise: Tensor,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> Tensor:
    """Draw latents (n, 8, 16, 16) for embedded prompts (n, tokens, width), (n, width).

    empty: the embedded empty prompt, (1, ...). Rows 2 i and 2 i + 1 of each pass, without and with
    the prompt, belong to one picture, so that pictures keep their order.
    """
    scheduler = make_scheduler()
    scheduler.set_timesteps(steps)
    count = len(noise)

    def paired(without: Tensor, told: Tensor) -> Tensor:
        return torch.stack([without.expand_as(told), told], 1).flatten(0, 1)

    words, pooled = paired(empty[0], words), paired(empty[1], pooled)
    latents = noise * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        given = scheduler.scale_model_input(latents, time).repeat_interleave(2, 0)
        times = torch.full((2 * count,), float(time), device=DEVICE)
        with autocast():
            said = model(given, times, words, pooled).float().view(count, 2, *latents.shape[1:])
        found = said[:, 0] + guidance * (said[:, 1] - said[:, 0])
        latents = scheduler.step(found, time, latents).prev_sample
    return latents
