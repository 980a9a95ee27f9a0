"""Train the base model on drawings: UNet and text encoders together."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lorarar.mini2.autoencoder import encode
from lorarar.mini2.denoising import kept_shares, noisy
from lorarar.mini2.machine import DEVICE, Clock, autocast
from lorarar.mini2.model import LATENT_CHANNELS, LATENTS, Denoiser, byte_pairs, encode_captions
from lorarar.mini2.optimise import train
from lorarar.mini2.samples import CAPTIONS, Chunk, Drawings
from lorarar.mini2.world import TOKENS

RATE = 1e-3
UNPROMPTED = 0.1
MEAN = 0.9995  # how slowly the weights that are kept follow


class Pool:
    """Latents and captions of drawings, filled while training goes on."""

    def __init__(self, capacity: int, vae: Any) -> None:
        shape = (capacity, LATENT_CHANNELS, LATENTS, LATENTS)
        self.latents = torch.zeros(shape, dtype=torch.float16, device=DEVICE)
        self.tokens = torch.zeros(capacity, CAPTIONS, TOKENS, dtype=torch.int16, device=DEVICE)
        self.count, self.filled = torch.zeros((), device=DEVICE), 0
        self.chunks = 0
        self.vae, self.vocabulary = vae, byte_pairs()[0]

    def add(self, chunk: Chunk) -> None:
        """Encode a chunk of drawings."""
        last = self.filled + len(chunk.pictures)
        self.latents[self.filled : last] = encode(self.vae, torch.from_numpy(chunk.pictures))
        flat = [text for said in chunk.captions for text in said]
        rows = encode_captions(flat, self.vocabulary).view(-1, CAPTIONS, TOKENS)
        self.tokens[self.filled : last] = rows.to(torch.int16)
        self.filled = last
        self.chunks += 1
        self.count.fill_(last)

    def some(self, size: int) -> tuple[Tensor, Tensor]:
        """Random latents (size, 8, 16, 16) with one of their captions' tokens each."""
        chosen = (torch.rand(size, device=DEVICE) * self.count).long()
        which = torch.randint(CAPTIONS, (size,), device=DEVICE)
        return self.latents[chosen].float(), self.tokens[chosen, which].long()


def make_denoiser(seed: int = 0) -> Denoiser:
    """An untrained UNet and text encoders, float32 on the device; sets torch's global seed."""
    torch.manual_seed(seed)
    return Denoiser(byte_pairs()[0]).to(DEVICE)


def train_base(
    pool: Pool,
    drawings: Drawings,
    steps: int,
    batch: int,
    clock: Clock,
    *,
    every: int = 2,
    start: Denoiser | None = None,
    peak: float = RATE,
    compiled: bool = False,
    seed: int = 0,
    state: Path | None = None,
) -> tuple[Denoiser, int]:
    """Train from nothing, or go on from `start`; a chunk of drawings joins the pool every so many
    steps.

    Noise prediction with min-SNR weights; the prompt is dropped for every tenth picture, for
    classifier-free guidance (arXiv 2207.12598).
    """
    model = (start or make_denoiser(seed)).train()
    kept = kept_shares()
    if compiled:
        model.unet.compile()

    def loss() -> Tensor:
        latents, tokens = pool.some(batch)
        told = (torch.rand(batch, 1, device=DEVICE) >= UNPROMPTED).float()
        mixed, times, noise, weights = noisy(latents, kept)
        with autocast():
            words, pooled = model.embed(tokens)
            words, pooled = words * told[..., None], pooled * told
            found = model(mixed, times, words, pooled)
        return ((found.float() - noise).square().mean((1, 2, 3)) * weights).mean()

    def fill(index: int) -> None:
        chunk = drawings.soon(pool.chunks) if index % every == 0 else None
        if chunk is not None:
            pool.add(chunk)

    done = train(model, loss, steps, peak, clock, mean=MEAN, each=fill, state=state)
    model.unet._compiled_call_impl = None
    return model.eval(), done


def save_base(model: Denoiser, path: Path) -> None:
    """Write the weights of UNet and both text encoders into one file, float16."""
    state = model.state_dict()
    save_file({_portable(k): v.half().contiguous().cpu() for k, v in state.items()}, path)


def load_base(path: Path) -> Denoiser:
    """Read what `save_base` wrote, as float32.

    Raises RuntimeError if a weight is missing or unknown.
    """
    model = make_denoiser()
    known = {_portable(name): name for name in model.state_dict()}
    weights = load_file(path)
    model.load_state_dict({known.get(name, name): w for name, w in weights.items()})
    return model.eval()


def _portable(name: str) -> str:
    """The same name with transformers 4 and 5, which have the first encoder's weights one level
    apart."""
    return name.replace("text.text_model.", "text.")


@torch.no_grad()
def embed(model: Denoiser, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """Return word embeddings (n, tokens, width) and pooled ones (n, width), float32.

    An empty prompt has zeros, as SDXL's pipeline gives it and as it was trained.
    """
    tokens = encode_captions(prompts, model.vocabulary).to(DEVICE)
    words, pooled = model.embed(tokens)
    told = torch.tensor([bool(p) for p in prompts], device=DEVICE).float()[:, None]
    return words * told[..., None], pooled * told
