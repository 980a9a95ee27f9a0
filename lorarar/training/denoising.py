"""What every training of an SDXL-class UNet does: encode, add noise, predict."""

from typing import Any, NamedTuple

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from lorarar.diffusion.latents import encode as encode_pixels
from lorarar.errors import LorararError
from lorarar.training.images import Example, read_image
from lorarar.training.noise import EdmNoise, Noisy, Scheduler


class Examples(NamedTuple):
    """Encoded images with their prompts.

    latents: (n, 4, h, w), scaled; words: (n, tokens, width); pooled: (n, width); sizes: SDXL's
    time ids (original size, crop, target size), (n, 6).
    """

    latents: Tensor
    words: Tensor
    pooled: Tensor
    sizes: Tensor

    def to(self, device: torch.device) -> "Examples":
        """Return them on another device."""
        return Examples(*(part.to(device) for part in self))

    def take(self, chosen: Tensor) -> "Examples":
        """Return those of these indices, (k,)."""
        return Examples(*(part[chosen] for part in self))

    def sample(self, count: int) -> "Examples":
        """Draw random ones, with repeats."""
        return self.take(torch.randint(len(self.latents), (count,)))

    def concatenate(self, others: "Examples") -> "Examples":
        """Return these, then the others."""
        return Examples(*map(torch.cat, zip(self, others, strict=True)))


def default_side(pipeline: StableDiffusionXLPipeline) -> int:
    """The side in pixels that the model was made for."""
    return pipeline.unet.config.sample_size * pipeline.vae_scale_factor


@torch.no_grad()
def encode(pipeline: StableDiffusionXLPipeline, examples: list[Example], side: int) -> Examples:
    """Encode images and prompts, one at a time, where the pipeline is; latents in float32.

    Raises LorararError for unreadable images or a side that the UNet cannot halve.
    """
    factor = pipeline.vae_scale_factor * 4
    if side % factor:
        raise LorararError(f"--side {side} is no multiple of {factor}, as this model needs")
    vae, unet = pipeline.vae, pipeline.unet
    latents, words, pooled = [], [], []
    for example in examples:
        pixels = read_image(example.image, side)[None].to(vae.device, vae.dtype)
        latents.append(encode_pixels(vae, pixels))
        sequence, summary = embed(pipeline, [example.prompt])
        words.append(sequence)
        pooled.append(summary)
    sizes = torch.tensor([[side, side, 0, 0, side, side]] * len(examples))
    return Examples(
        torch.cat(latents).float(), torch.cat(words), torch.cat(pooled), sizes.to(unet.device)
    )


@torch.no_grad()
def embed(pipeline: StableDiffusionXLPipeline, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """Return word embeddings (n, tokens, width) and pooled ones (n, width)."""
    words, _, pooled, _ = pipeline.encode_prompt(
        prompts, device=pipeline.unet.device, do_classifier_free_guidance=False
    )
    return words, pooled


def naming_both(
    pipeline: StableDiffusionXLPipeline, examples: Examples, prompts: list[str], phrase: str
) -> Examples:
    """The same images, each with a random one of a content LoRA's prompts and a style's phrase."""
    drawn = torch.randint(len(prompts), (len(examples.latents),))
    words, pooled = embed(pipeline, [f"{prompts[index]} {phrase}" for index in drawn])
    return examples._replace(words=words, pooled=pooled)


@torch.no_grad()
def without_prompts(pipeline: StableDiffusionXLPipeline, examples: Examples) -> Examples:
    """The same images with the empty prompt that guidance starts from."""
    _, words, _, pooled = pipeline.encode_prompt("", device=pipeline.unet.device)
    count = len(examples.latents)
    return examples._replace(words=words.expand(count, -1, -1), pooled=pooled.expand(count, -1))


def add_noise(scheduler: Scheduler, latents: Tensor) -> Noisy:
    """Draw a time and noise for each latent; the target is what the model was made for.

    Each time is uniform, and those of a batch are spread evenly, so that losses of batches vary
    less (arXiv 2107.00630, appendix I.1).
    """
    noise = torch.randn(latents.shape).to(latents)
    spread = (torch.randperm(len(latents)) + torch.rand((), dtype=torch.float64)) / len(latents)
    if isinstance(scheduler, EdmNoise):
        levels = (spread * len(scheduler.sigmas)).long().to(latents.device)
        return scheduler.add(latents, noise, levels)
    times = (spread * scheduler.config.num_train_timesteps).long().to(latents.device)
    noisy = scheduler.add_noise(latents, noise, times)
    if scheduler.config.prediction_type == "v_prediction":
        return Noisy(noisy, times, scheduler.get_velocity(latents, noise, times))
    return Noisy(noisy, times, noise)


def snr_weights(scheduler: Scheduler, times: Tensor, gamma: float) -> Tensor:
    """Weigh squared errors at `times`, (n,), so that those with little noise count `gamma` at most.

    Min-SNR weights (arXiv 2303.09556, section 3.4), of noise or velocity, as configured.
    """
    if isinstance(scheduler, EdmNoise):
        return scheduler.snr_weights(times, gamma)
    signal = scheduler.alphas_cumprod.to(times.device)[times]
    ratio = signal / (1 - signal)
    if scheduler.config.prediction_type == "v_prediction":
        return ratio.clamp(max=gamma) / (ratio + 1)
    return (gamma / ratio).clamp(max=1)  # also where the signal, and so the ratio, is zero


def predict(unet: Any, noisy: Noisy, examples: Examples) -> Tensor:
    """Let the UNet look at noisy latents with their prompts: (n, 4, h, w) float32."""
    return unet(
        noisy.latents.to(examples.words.dtype),
        noisy.times,
        encoder_hidden_states=examples.words,
        added_cond_kwargs={"text_embeds": examples.pooled, "time_ids": examples.sizes},
    ).sample.float()
