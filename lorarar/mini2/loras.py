"""Train LoRAs, all at once: each has a lane of its own, and so loses nothing to the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorarar.mini2.autoencoder import encode
from lorarar.mini2.base import embed
from lorarar.mini2.denoising import kept_shares, noisy
from lorarar.mini2.lanes import Factors, Lanes, Loras
from lorarar.mini2.machine import DEVICE, Clock, autocast, faster
from lorarar.mini2.model import Denoiser
from lorarar.mini2.samples import Chunk


@dataclass(frozen=True)
class Recipe:
    """learning_rate: at the start, from where it falls evenly to 0. prior, unprompted: how many
    rows of a step show what shall stay as it is, with their captions and without; prior_weight:
    what their mean error counts."""

    rank: int = 8
    steps: int = 600
    learning_rate: float = 2e-3
    batch: int = 4
    prior: int = 1
    unprompted: int = 1
    prior_weight: float = 0.3


class Shown:
    """Encoded pictures with embedded captions, a row of (lanes, n, ...) each."""

    def __init__(self, model: Denoiser, vae: Any, sets: Sequence[Chunk]) -> None:
        self.latents = torch.stack([encode(vae, torch.from_numpy(c.pictures)) for c in sets])
        texts = [text for c in sets for said in c.captions for text in said]
        words, pooled = embed(model, texts)
        count = self.latents.shape[:2]
        self.words = words.view(*count, -1, *words.shape[1:])
        self.pooled = pooled.view(*count, -1, pooled.shape[-1])

    def some(self, size: int, lanes: int) -> tuple[Tensor, Tensor, Tensor]:
        """Random rows of each lane with one of their captions: (lanes, size, ...) each.

        A single lane serves as many as are asked for.
        """
        known, count = self.latents.shape[:2]
        lane = (torch.arange(lanes, device=DEVICE) % known)[:, None]
        chosen = (torch.rand(lanes, size, device=DEVICE) * count).long()
        which = (torch.rand(lanes, size, device=DEVICE) * self.words.shape[2]).long()
        return (
            self.latents[lane, chosen],
            self.words[lane, chosen, which],
            self.pooled[lane, chosen, which],
        )

    def lanes(self, chosen: Sequence[int]) -> "Shown":
        """The same of some lanes, in this order."""
        other = object.__new__(Shown)
        at = torch.tensor(chosen, device=DEVICE)
        other.latents, other.words = self.latents[at], self.words[at]
        other.pooled = self.pooled[at]
        return other

    def joined(self, others: "Shown") -> "Shown":
        """Both sets in each lane."""
        other = object.__new__(Shown)
        other.latents = torch.cat([self.latents, others.latents], 1)
        other.words = torch.cat([self.words, others.words], 1)
        other.pooled = torch.cat([self.pooled, others.pooled], 1)
        return other


def fresh(lanes: Lanes, count: int, rank: int, seed: int = 0) -> Loras:
    """Untrained LoRAs: downs normal with deviation 1 / rank, ups zero, as PEFT's 'gaussian'."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: Factors(
            torch.zeros(count, out, rank, device=DEVICE),
            (torch.randn(1, rank, width, generator=generator) / rank)
            .repeat(count, 1, 1)
            .to(DEVICE),
        )
        for name, (out, width) in lanes.shapes.items()
    }


def train_loras(
    model: Denoiser,
    lanes: Lanes,
    shown: Shown,
    prior: Shown,
    recipe: Recipe,
    clock: Clock,
    *,
    rates: Sequence[float] | None = None,
    weights: Sequence[float] | None = None,
    seed: int = 0,
) -> Loras:
    """Train one LoRA per lane of `shown`, each on its own pictures, as if it were alone.

    prior: one lane, what shall stay as it is, for all. rates, weights: for each lane, in place of
    the recipe's learning rate and prior weight. Adam, gradients clipped lane by lane.
    """
    torch.manual_seed(seed)
    count = len(shown.latents)
    loras = fresh(lanes, count, recipe.rank, seed)
    kept = kept_shares()
    rate = torch.tensor(rates or [recipe.learning_rate] * count, device=DEVICE)
    heed = torch.tensor(weights or [recipe.prior_weight] * count, device=DEVICE)
    adam = _Adam([part.requires_grad_() for factors in loras.values() for part in factors], rate)
    rows = recipe.batch + recipe.prior + recipe.unprompted
    told = torch.ones(rows, device=DEVICE)
    told[recipe.batch + recipe.prior :] = 0
    counts = torch.cat([
        torch.full((count, recipe.batch), 1 / recipe.batch, device=DEVICE),
        heed[:, None].expand(-1, rows - recipe.batch) / max(1, rows - recipe.batch),
    ], 1)  # fmt: skip

    def step() -> Tensor:
        own = shown.some(recipe.batch, count)
        if rows > recipe.batch:
            old = prior.some(rows - recipe.batch, count)
            own = tuple(torch.cat(pair, 1) for pair in zip(own, old, strict=True))  # type: ignore
        latents, words, pooled = own
        words, pooled = words * told[None, :, None, None], pooled * told[None, :, None]
        mixed, times, noise, snr = noisy(latents.flatten(0, 1), kept)
        with autocast():
            found = model(mixed, times, words.flatten(0, 1), pooled.flatten(0, 1))
        off = (found.float() - noise).square().mean((1, 2, 3)) * snr
        loss = (off.view(count, rows) * counts).sum()
        loss.backward()
        adam.step()
        return loss.detach()

    lanes.carry(loras)
    adam.share.fill_(1.0)
    fast, index = faster(step), 0
    for index in range(recipe.steps):
        done = max(index / recipe.steps, clock.share)
        if done >= 1:
            break
        adam.share.fill_(1 - done)
        loss = fast()
        if index % 50 == 0 and DEVICE.type == "cuda":
            torch.cuda.synchronize()
    clock.say(f"{count} LoRAs, {index + 1} steps, loss {float(loss) / count:.4f}")
    lanes.carry(None)
    return {name: Factors(*(part.detach() for part in f)) for name, f in loras.items()}


class _Adam:
    """Adam with a learning rate and a gradient norm for each lane, the tensors' first axis."""

    def __init__(self, weights: list[Tensor], rate: Tensor) -> None:
        self.weights, self.rate = weights, rate.view(-1, 1, 1)
        self.first = [torch.zeros_like(w) for w in weights]
        self.second = [torch.zeros_like(w) for w in weights]
        self.share = torch.ones((), device=DEVICE)
        self.steps = torch.zeros((), device=DEVICE)
        for weight in weights:
            weight.grad = torch.zeros_like(weight)

    @torch.no_grad()
    def step(self, betas: tuple[float, float] = (0.9, 0.999), tiny: float = 1e-8) -> None:
        grads = [weight.grad for weight in self.weights]
        squares = torch.stack([grad.square().sum((1, 2)) for grad in grads if grad is not None])
        clip = (1 / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1).view(-1, 1, 1)
        self.steps += 1
        fix = (1 - betas[1] ** self.steps).sqrt() / (1 - betas[0] ** self.steps)
        scale = self.rate * self.share * fix
        for weight, m, v in zip(self.weights, self.first, self.second, strict=True):
            grad = weight.grad
            assert grad is not None
            grad.mul_(clip)
            m.lerp_(grad, 1 - betas[0])
            v.mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])
            weight.sub_(scale * m / (v.sqrt() + tiny))
            grad.zero_()
