"""The noise of training: that which the model's own scheduler says it was trained with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline
from torch import Tensor

from lorarar.artefacts.scheduler import DIFFERING, FILE, edm_levels, find_class, resolve_noise


class Noisy(NamedTuple):
    """Noisy latents with what the UNet should say of them at `times`, (n,)."""

    latents: Tensor
    times: Tensor
    target: Tensor


@dataclass(frozen=True)
class EdmNoise:
    """EDM's noise (Karras et al. 2206.00364, section 5): x = x_0 + sigma * noise.

    sigmas: (levels,), those that are trained on, each as likely; diffusers draws at the same. The
    UNet sees c_in x at the time log(sigma) / 4, and what it should say of x is
    (x_0 - c_skip x) / c_out, whose squared error has the weight that EDM gives it.
    """

    sigmas: np.ndarray
    sigma_data: float
    predicts_velocity: bool

    def add(self, latents: Tensor, noise: Tensor, levels: Tensor) -> Noisy:
        """Add noise of these levels, (n,), to latents, (n, channels, height, width)."""
        sigmas = torch.from_numpy(self.sigmas).to(latents)[levels]
        sigma, data = sigmas[:, None, None, None], self.sigma_data
        variance = sigma**2 + data**2
        skip, out = data**2 / variance, sigma * data / variance.sqrt()
        noisy = latents + sigma * noise
        target = (latents - skip * noisy) / (-out if self.predicts_velocity else out)
        return Noisy(noisy / variance.sqrt(), sigmas.log() / 4, target)

    def snr_weights(self, times: Tensor, gamma: float) -> Tensor:
        """Weigh squared errors at `times`, (n,), as min-SNR does: c_out^2 min(1 / sigma^2, gamma).

        See `lorarar.training.denoising.snr_weights`.
        """
        square = (8 * times).exp()
        out = square * self.sigma_data**2 / (square + self.sigma_data**2)
        return out * (1 / square).clamp(max=gamma)


Scheduler: TypeAlias = DDPMScheduler | EdmNoise


def training_scheduler(pipeline: StableDiffusionXLPipeline) -> Scheduler:
    """Return the noise that a model was trained with, whatever sampler it draws with.

    Raises LorararError for a scheduler that trains otherwise, as those of flow matching.
    """
    scheduler: Any = pipeline.scheduler
    config = dict(scheduler.config) | {"_class_name": type(scheduler).__name__}
    source = Path(str(pipeline.config.get("_name_or_path") or "model"), FILE)
    resolved = resolve_noise(config, source)
    if find_class(config, source).is_edm:
        return EdmNoise(
            sigmas=edm_levels(resolved, resolved["num_train_timesteps"]),
            sigma_data=resolved["sigma_data"],
            predicts_velocity=resolved["prediction_type"] == "v_prediction",
        )
    names = (*DIFFERING[:3], "num_train_timesteps", "prediction_type", "rescale_betas_zero_snr")
    return DDPMScheduler(**{name: resolved[name] for name in names})
