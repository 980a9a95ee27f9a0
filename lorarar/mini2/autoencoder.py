"""Train the autoencoder: drawings of 128 pixels to latents of 16, and back."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from lorarar.mini2.judge import Album
from lorarar.mini2.machine import DEVICE, Clock, autocast
from lorarar.mini2.model import make_vae
from lorarar.mini2.optimise import train
from lorarar.mini2.textures import SIDE

RATE = 1.2e-3
KL_WEIGHT = 1e-4
IN_PIECES = 0.75  # share of steps and time
PIECE, PERIOD = 64, 16  # of what is trained on, and of where pieces may begin, in pixels
# oneDNN convolves twice as fast in the plain layout, as bfloat16 on AMX shows; cuDNN does not.
LAYOUT = torch.channels_last if DEVICE.type == "cuda" else torch.contiguous_format
SCALE = "scaling_factor"  # of latents, kept beside the weights


def train_vae(
    album: Album,
    steps: int,
    batch: int,
    clock: Clock,
    *,
    start: Any = None,
    peak: float = RATE,
    seed: int = 0,
    state: Path | None = None,
) -> tuple[Any, int]:
    """Train on drawings, which go on coming; sets `scaling_factor`.

    First on pieces, which cost a quarter of whole drawings and begin where textures repeat, then,
    for the rest of steps and time, on a quarter as many whole ones, at a third of the rate: the
    attention in the middle has to see as many places as it will. start: an autoencoder to go on
    from. The mean of the weights is not kept, as the rate falls to zero.
    """
    torch.manual_seed(seed)
    vae = (start or make_vae()).to(DEVICE, memory_format=LAYOUT).train()

    def fill(index: int) -> None:
        if DEVICE.type == "cuda" or index % 32 == 0:
            album.fill()

    def part(size: int, steps: int, count: int, peak: float, clock: Clock) -> int:
        def loss() -> Tensor:
            chosen = (torch.rand(count, device=DEVICE) * album.count).long()
            return _error(vae, to_input(_pieces(album.pictures, chosen, size)))

        kept = state and state.with_name(f"{state.stem}_{size}.pt")
        return train(vae, loss, steps, peak, clock, each=fill, state=kept)

    first = int(steps * IN_PIECES)
    done = part(PIECE, first, batch, peak, Clock(clock.label, clock.left * IN_PIECES))
    done += part(SIDE, steps - first, max(1, batch // 4), peak / 3, Clock(clock.label, clock.left))
    vae.eval()
    latents = encode(vae, album.pictures[:1024], scaled=False)
    vae.register_to_config(scaling_factor=1 / float(latents.std()))
    return vae, done


def _error(vae: Any, seen: Tensor) -> Tensor:
    """Of colours, and of their differences between neighbours, which keeps lines sharp."""
    with autocast():
        latents = vae.encode(seen).latent_dist
        spread = torch.randn_like(latents.mean) * latents.std
        shown = vae.decode(latents.mean + spread).sample.float()
    off = functional.l1_loss(shown, seen) + functional.mse_loss(shown, seen)
    for axis in (2, 3):
        off = off + 0.5 * functional.l1_loss(shown.diff(dim=axis), seen.diff(dim=axis))
    mean, logvar = latents.mean.float(), latents.logvar.float()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return off + KL_WEIGHT * kl


def _pieces(pictures: Tensor, chosen: Tensor, size: int = PIECE) -> Tensor:
    """Squares of `size` pixels of the pictures chosen, each from a place of its own."""
    along = torch.arange(size, device=pictures.device)
    places = (SIDE - size) // PERIOD + 1
    rows, columns = (
        PERIOD * torch.randint(places, (len(chosen), 1), device=pictures.device) + along
        for _ in range(2)
    )
    return pictures[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]


def to_input(pictures: Tensor) -> Tensor:
    """(n, 128, 128, 3) uint8 -> (n, 3, 128, 128) float32 in [-1, 1]."""
    shown = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    return shown.contiguous(memory_format=LAYOUT)


@torch.no_grad()
def encode(vae: Any, pictures: Tensor, scaled: bool = True) -> Tensor:
    """(n, 128, 128, 3) uint8 -> latents (n, 8, 16, 16) float32."""
    parts = []
    for part in pictures.split(256):
        with autocast():
            latents = vae.encode(to_input(part.to(DEVICE))).latent_dist.mean.float()
        parts.append(latents * (vae.config.scaling_factor if scaled else 1))
    return torch.cat(parts)


@torch.no_grad()
def decode(vae: Any, latents: Tensor) -> Tensor:
    """Latents (n, 8, 16, 16) -> pictures (n, 3, 128, 128) in [0, 1]."""
    parts = []
    for part in latents.split(256):
        with autocast():
            parts.append(vae.decode(part / vae.config.scaling_factor).sample.float())
    return (torch.cat(parts) / 2 + 0.5).clamp(0, 1)


def save_vae(vae: Any, path: Path) -> None:
    """Write the weights as float16, and the factor that scales latents to deviation 1."""
    weights = {k: v.half().contiguous().cpu() for k, v in vae.state_dict().items()}
    save_file(weights | {SCALE: torch.tensor(vae.config.scaling_factor)}, path)


def load_vae(path: Path) -> Any:
    """Read what `save_vae` wrote, as float32 on the device, in evaluation mode."""
    weights = load_file(path)
    vae = make_vae()
    vae.register_to_config(scaling_factor=float(weights.pop(SCALE)))
    vae.load_state_dict({k: v.float() for k, v in weights.items()})
    return vae.to(DEVICE, memory_format=LAYOUT).eval()
