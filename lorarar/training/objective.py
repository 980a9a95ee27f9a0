"""What makes a merge good: LoRA.rar's and ZipLoRA's objective, one UNet pass at a time."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lorarar.diffusion.two_loras import Mode, PairedLinear, use
from lorarar.hypernet import ROLES, Role
from lorarar.training.denoising import Examples, add_noise, predict
from lorarar.training.noise import Scheduler

TINY = 1e-12


def merge_loss(
    unet: Any,
    paired: Mapping[str, PairedLinear],
    m: Mapping[str, Tensor],
    batches: Mapping[Role, Examples],
    *,
    scheduler: Scheduler,
    backward: Callable[[Tensor], object] = Tensor.backward,
) -> float:
    """Sum over both roles of MSE(UNet + merged, UNet + that LoRA alone) on that LoRA's examples.

    Gradients are added to the leaves `m` after each role, so that one UNet pass is held at a time;
    without gradients enabled only the value is computed. Source: arXiv 2412.05148, section 3.3;
    arXiv 2311.13600, section 3.3.
    """
    total = 0.0
    for role in ROLES:
        noisy = add_noise(scheduler, batches[role].latents)
        with torch.no_grad():
            use(paired, role)
            wanted = predict(unet, noisy, batches[role])
        use(paired, "merged", m)
        loss = functional.mse_loss(predict(unet, noisy, batches[role]), wanted)
        if torch.is_grad_enabled():
            backward(loss)
        total += float(loss.detach())
    return total


def together_loss(
    unet: Any,
    paired: Mapping[str, PairedLinear],
    m: Mapping[str, Tensor],
    both: Examples,
    *,
    scheduler: Scheduler,
    backward: Callable[[Tensor], object] = Tensor.backward,
) -> float:
    """Error of UNet + merged on prompts that name both, against what both LoRAs alone add up to.

    With a = (UNet + merged) - UNet and b = ((UNet + content) - UNet) + ((UNet + style) - UNet), of
    noise predictions, it is |a - b|^2 / (|a| |b|), the mean over examples. Whatever the angle
    between a and b, it is least where they are equally long, so that fading does not pay.
    Gradients are added to the leaves `m`, as in `merge_loss`. This objective is lorarar's own: the
    published one never sees subject and style in one prompt.
    """
    noisy = add_noise(scheduler, both.latents)
    alone: dict[Mode, Tensor] = {}
    with torch.no_grad():
        for mode in ("none", *ROLES):
            use(paired, mode)
            alone[mode] = predict(unet, noisy, both)
    wanted = alone["content"] + alone["style"] - 2 * alone["none"]
    use(paired, "merged", m)
    found = predict(unet, noisy, both) - alone["none"]
    lengths = (_square(found) * _square(wanted)).sqrt().clamp_min(TINY)
    loss = (_square(found - wanted) / lengths).mean()
    if torch.is_grad_enabled():
        backward(loss)
    return float(loss.detach())


def _square(difference: Tensor) -> Tensor:
    """Each example's mean square, (n,)."""
    return difference.square().mean((1, 2, 3))


def overlap(m: Mapping[str, Tensor]) -> Tensor:
    """Sum over layers of |cos(m_c, m_s)|."""
    similarities = [functional.cosine_similarity(m_c, m_s, 0).abs() for m_c, m_s in m.values()]
    return torch.stack(similarities).sum()
