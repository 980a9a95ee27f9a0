"""The two halves of a VAE as modules to trace, on latents of mean 0 and deviation 1.

Where a VAE says what mean and deviation its own latents have, the halves scale and shift them, so
that no runtime has to know these.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

LEAST_LOG_VARIANCE = -30.0  # that diffusers' distributions of latents keep


def affine_of(vae: Any, encoding: bool = False) -> dict[str, np.ndarray]:
    """The scale and shift, (1, channels, 1, 1), of latents before decoding, if the VAE says them;
    encoding: instead of means and log variances behind the encoder."""
    if getattr(vae.config, "latents_mean", None) is None:
        return {}
    mean, deviation = (
        np.array(values, np.float32) for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    scale, shift = deviation, mean
    if encoding:
        scale = np.concatenate([1 / deviation, np.ones_like(deviation)])
        shift = np.concatenate([-mean / deviation, -2 * np.log(deviation)])
    return {"scale": scale.reshape(1, -1, 1, 1), "shift": shift.reshape(1, -1, 1, 1)}


class Affine(nn.Module):
    """x * scale + shift; x as it is where there are none."""

    scale: Tensor
    shift: Tensor

    def __init__(self, values: Mapping[str, np.ndarray]):
        super().__init__()
        for name, value in values.items():
            self.register_buffer(name, torch.tensor(value))
        self.changes = bool(values)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> the same shape."""
        return x * self.scale + self.shift if self.changes else x


class Decoder(nn.Module):
    """From latents that are divided by the scaling factor to pixels."""

    def __init__(self, vae: Any, affine: Mapping[str, np.ndarray]):
        super().__init__()
        self.affine = Affine(affine)
        self.post_quant_conv = getattr(vae, "post_quant_conv", None)
        self.decoder = vae.decoder

    def forward(self, latent_sample: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, 3, height, width), in -1 to 1 or near."""
        latent_sample = self.affine(latent_sample)
        if self.post_quant_conv is not None:
            latent_sample = self.post_quant_conv(latent_sample)
        return self.decoder(latent_sample)


class VaeEncoder(nn.Module):
    """From pixels to means and log variances of latents, side by side in the channels.

    An AutoencoderTiny, which knows no variance, has a negligible one.
    """

    def __init__(self, vae: Any, affine: Mapping[str, np.ndarray]):
        super().__init__()
        self.encoder, self.quant_conv = vae.encoder, getattr(vae, "quant_conv", None)
        self.affine = Affine(affine)
        self.gives_variance = not isinstance(vae, AutoencoderTiny)

    def forward(self, sample: Tensor) -> Tensor:
        """(n, 3, height, width), in -1 to 1 -> (n, 2 channels, h, w)."""
        moments = self.encoder(sample)
        if not self.gives_variance:
            moments = torch.cat([moments, torch.full_like(moments, LEAST_LOG_VARIANCE)], 1)
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        return self.affine(moments)
