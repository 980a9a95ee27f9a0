"""Latents as the UNet knows them, and pictures: through the VAE, as its configuration says."""

from typing import Any

import torch
from torch import Tensor


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Decode latents (n, channels, h, w) of any dtype to pixels (n, 3, height, width), in -1 to 1
    or near, of the VAE's dtype."""
    mean, deviation = moments(vae)
    return vae.decode(latents.to(vae.dtype) * deviation / vae.config.scaling_factor + mean).sample


def encode(vae: Any, pixels: Tensor) -> Tensor:
    """Encode pixels (n, 3, height, width), -1 to 1, to the latents that are most likely."""
    encoded = vae.encode(pixels)
    found = encoded.latents if "latents" in encoded else encoded.latent_dist.mean
    mean, deviation = moments(vae)
    return (found - mean) * vae.config.scaling_factor / deviation


def moments(vae: Any) -> tuple[Tensor, Tensor]:
    """Return the mean and deviation, (1, channels, 1, 1), that a VAE's latents have in pictures.

    They are 0 and 1 of a VAE that does not say.
    """
    count = vae.config.latent_channels
    said = [getattr(vae.config, f"latents_{name}", None) for name in ("mean", "std")]
    mean, deviation = (
        torch.full((count,), default) if values is None else torch.tensor(values)
        for values, default in zip(said, (0.0, 1.0), strict=True)
    )
    shape = 1, count, 1, 1
    return mean.reshape(shape).to(vae.device, vae.dtype), deviation.reshape(shape).to(mean)
