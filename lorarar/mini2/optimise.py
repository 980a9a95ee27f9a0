"""The loop that everything here is trained by: AdamW, a rate that rises and falls, mean weights."""

import time
from collections.abc import Callable
from math import cos, pi
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorarar.errors import LorararError
from lorarar.files import write_atomically
from lorarar.mini2.machine import DEVICE, Clock, faster
from lorarar.training.loop import UNUSABLE
from lorarar.unfinished import make_folder

WARM = 0.04  # share of the time in which the rate rises
SAVE_SECONDS = 300


def rate(share: float) -> float:
    """From 0 to 1 and back to 0 along a cosine."""
    return share / WARM if share < WARM else 0.5 + 0.5 * cos(pi * (share - WARM) / (1 - WARM))


def train(
    model: nn.Module,
    loss: Callable[[], Tensor],
    steps: int,
    peak: float,
    clock: Clock,
    *,
    betas: tuple[float, float] = (0.9, 0.99),
    decay: float = 0.0,
    mean: float = 0.0,
    each: Callable[[int], None] = lambda index: None,
    state: Path | None = None,
) -> int:
    """Minimise `loss()`; returns the number of steps done before the clock's time was up.

    The rate follows `rate` of the steps or of the time, whichever is further. decay: AdamW's.
    mean: how slowly the exponential mean of the weights follows, 0 for none; the model ends with
    it, if there were steps enough for it to forget the first. each: called before each step, from
    outside any recorded graph. state: a file from where a call that was stopped goes on, written
    every `SAVE_SECONDS`.
    """
    weights: list[Tensor] = [w for w in model.parameters() if w.requires_grad]
    on_gpu = DEVICE.type == "cuda"
    start = torch.zeros((), device=DEVICE) if on_gpu else 0.0
    optimiser = torch.optim.AdamW(
        weights, lr=start, betas=betas, weight_decay=decay, fused=True, capturable=on_gpu
    )
    means = [weight.detach().clone() for weight in weights] if mean else []
    first = _restore(state, model, optimiser, means, clock)

    def step() -> Tensor:
        optimiser.zero_grad(set_to_none=not on_gpu)
        off = loss()
        off.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        if means:
            torch._foreach_lerp_(means, [weight.detach() for weight in weights], 1 - mean)
        return off.detach()

    fast = faster(step)
    report, done, saved = max(1, min(200, steps // 20)), first, time.monotonic()
    off = torch.zeros(())
    for index in range(first, steps):
        share = max(index / steps, clock.share)
        if share >= 1:
            break
        each(index)
        _set_rate(optimiser, peak * rate(share))
        off = fast()
        done += 1
        if index % report == 0:
            clock.say(f"step {index} of {steps}, loss {float(off):.4f}")
        elif on_gpu and index % 50 == 0:
            torch.cuda.synchronize()  # so that the clock tells the truth
        if state is not None and time.monotonic() - saved > SAVE_SECONDS:
            _save(state, model, optimiser, means, clock, done)
            saved = time.monotonic()
    if means and done * (1 - mean) > 3:
        with torch.no_grad():
            torch._foreach_copy_(weights, means)
    clock.say(f"{done} steps, loss {float(off):.4f}")
    return done


def _save(state: Path, model: Any, optimiser: Any, means: Any, clock: Clock, done: int) -> None:
    parts = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "means": means}
    make_folder(state.parent)
    content = parts | {"done": done, "spent": clock.spent}
    write_atomically(state, lambda file: torch.save(content, file), force=True)


def _restore(state: Path | None, model: Any, optimiser: Any, means: Any, clock: Clock) -> int:
    if state is None or not state.exists():
        return 0
    try:
        parts = torch.load(state, map_location=DEVICE, weights_only=True)
        model.load_state_dict(parts["model"])
        optimiser.load_state_dict(parts["optimiser"])
        if means:
            torch._foreach_copy_(means, parts["means"])
        clock.started -= parts["spent"]
        return int(parts["done"])
    except UNUSABLE as error:
        raise LorararError(
            f"{state}: no state of this training ({error!r}); remove it to start anew"
        ) from error


def _set_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value
