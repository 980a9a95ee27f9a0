"""Train the small SDXL from nothing: the autoencoder, then UNet and text encoders together."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lorarar.mini.model import make_pipeline, make_vae
from lorarar.mini.styles import PLAIN, random_style
from lorarar.mini.world import SIZE, colour_name, draw, prompt_for, random_individual, random_scene
from lorarar.training.denoising import Examples, add_noise, predict, snr_weights
from lorarar.training.identity import begin, model_hash
from lorarar.training.loop import train
from lorarar.training.noise import training_scheduler

STYLED = 0.4  # share of drawings in a random style, never one of the 16
MARKED = 0.7  # share of drawings of marked individuals
UNPLACED = 0.2  # share of prompts without a place
NAMED = 0.5  # share of markings that the prompt names
KL_WEIGHT = 1e-4
VAE_BATCH, VAE_STEPS = 16, 2000
DRAWINGS = 30_000
BATCH, STEPS = 32, 10_000
UNPROMPTED = 0.1
SNR_GAMMA = 5.0


def base_drawing(
    generator: np.random.Generator, styled: float = STYLED, marked: float = MARKED
) -> tuple[np.ndarray, str]:
    """Draw (64, 64, 3) uint8 what the base model may see, and its prompt."""
    scene = random_scene(random_individual(generator, marked), generator)
    style = random_style(generator) if generator.random() < styled else PLAIN
    prompt = prompt_for(scene)
    if generator.random() < UNPLACED:
        prompt = prompt.removesuffix(f" {scene.place}")
    if style is not PLAIN:
        prompt += f" in {style.texture} look"
    pixels = draw(scene, style, int(generator.integers(2**31)))
    one = scene.individual
    if one.marking != "none" and generator.random() < NAMED:
        named = f"{one.kind} with {colour_name(one.colours[1])} {one.marking}"
        prompt = prompt.replace(one.kind, named, 1)
    return (pixels * 255).round().astype(np.uint8), prompt


def to_input(pictures: np.ndarray) -> Tensor:
    """(n, 64, 64, 3) uint8 -> (n, 3, 64, 64) float32 in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_vae(folder: Path, steps: int = VAE_STEPS, seed: int = 0) -> AutoencoderKL:
    """Train on fresh drawings, half of them in random styles; sets `scaling_factor`."""
    torch.manual_seed(seed)
    vae = make_vae()
    optimiser = torch.optim.AdamW(vae.parameters(), lr=2e-3, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps + 1)

    def step(index: int) -> float:
        generator = np.random.default_rng((seed, index))
        pictures = to_input(
            np.stack([base_drawing(generator, 0.5, 0.3)[0] for _ in range(VAE_BATCH)])
        )
        with torch.autocast("cpu", torch.bfloat16):
            latents = vae.encode(pictures).latent_dist
            shown = vae.decode(latents.sample()).sample.float()
        error = functional.l1_loss(shown, pictures) + functional.mse_loss(shown, pictures)
        loss = error + KL_WEIGHT * latents.kl().mean() / latents.mean[0].numel()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        return float(error.detach())

    parts = {"vae": vae, "optimiser": optimiser, "schedule": schedule}
    begin(folder, {"steps": steps, "seed": seed})
    train(step, parts, steps, folder, seed=seed, label="autoencoder")
    generator = np.random.default_rng((seed, steps))
    pictures = np.stack([base_drawing(generator, 0.5, 0.3)[0] for _ in range(256)])
    with torch.no_grad():
        latents = vae.encode(to_input(pictures)).latent_dist.mean
    vae.register_to_config(scaling_factor=1 / float(latents.std()))
    return vae.eval()


@torch.no_grad()
def drawings_as_latents(vae: AutoencoderKL, drawings: int, seed: int) -> tuple[Tensor, list[str]]:
    """Return scaled latents (n, 4, 16, 16) float32 and the prompts of fresh drawings."""
    latents, prompts = [], []
    for index in track(range(drawings // 100), "drawing"):
        generator = np.random.default_rng((seed, 1_000_000 + index))
        pictures, words = zip(*(base_drawing(generator) for _ in range(100)), strict=True)
        encoded = vae.encode(to_input(np.stack(pictures))).latent_dist.mean
        latents.append(encoded * vae.config.scaling_factor)
        prompts += words
    return torch.cat(latents), prompts


def train_base(
    vae: AutoencoderKL, folder: Path, steps: int = STEPS, seed: int = 0, drawings: int = DRAWINGS
) -> StableDiffusionXLPipeline:
    """Train UNet and text encoders on drawings; the pipeline returned has averaged weights.

    Noise prediction with min-SNR weights (arXiv 2303.09556); the prompt is dropped for every
    tenth picture, for classifier-free guidance (arXiv 2207.12598).
    """
    pipeline = make_pipeline(vae, seed)
    facts = {"steps": steps, "seed": seed, "drawings": drawings, "model": model_hash(pipeline)}
    begin(folder, facts)
    latents, prompts = drawings_as_latents(vae, drawings, seed)
    tokens = _tokens(pipeline, prompts)
    model = nn.ModuleList([pipeline.unet, pipeline.text_encoder, pipeline.text_encoder_2]).train()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999), use_buffers=False)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=8e-4, betas=(0.9, 0.99), weight_decay=0, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 8e-4, total_steps=steps + 1, pct_start=0.05, cycle_momentum=False
    )
    scheduler = training_scheduler(pipeline)
    sizes = torch.tensor([[SIZE, SIZE, 0, 0, SIZE, SIZE]] * BATCH)

    def step(index: int) -> float:
        chosen = torch.randint(len(latents), (BATCH,))
        # Of so few tokens, plain attention's gradients take a third of flash attention's time.
        told = (torch.rand(BATCH, 1) >= UNPROMPTED).float()
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
            words, pooled = encode_tokens(pipeline, tokens[chosen])
            batch = Examples(latents[chosen], words * told[..., None], pooled * told, sizes)
            noisy = add_noise(scheduler, batch.latents)
            errors = (predict(pipeline.unet, noisy, batch) - noisy.target).square().mean((1, 2, 3))
        loss = (errors * snr_weights(scheduler, noisy.times, SNR_GAMMA)).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(model)
        return float(loss.detach())

    parts = {"model": model, "average": average, "optimiser": optimiser, "schedule": schedule}
    train(step, parts, steps, folder, seed=seed, label="base model")
    model.load_state_dict(average.module.state_dict())
    model.eval()
    return pipeline


def _tokens(pipeline: Any, prompts: list[str]) -> Tensor:
    return pipeline.tokenizer(
        prompts, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids


def encode_tokens(pipeline: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return SDXL's word embeddings (n, tokens, both widths) and pooled embedding (n, width)."""
    first = pipeline.text_encoder(tokens, output_hidden_states=True)
    second = pipeline.text_encoder_2(tokens, output_hidden_states=True)
    words = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
    return words, second.text_embeds
