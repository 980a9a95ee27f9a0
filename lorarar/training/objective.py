"""What makes a merge good: LoRA.rar's and ZipLoRA's objective, one UNet pass at a time."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor
from torch.nn import functional

from lorarar.hypernet import ROLES
from lorarar.training.denoising import Examples, add_noise, predict
from lorarar.training.paired import PairedLinear, use


def merge_loss(
    unet: Any,
    paired: Mapping[str, PairedLinear],
    m: Mapping[str, Tensor],
    batches: Mapping[str, Examples],
    scheduler: DDPMScheduler,
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
            loss.backward()
        total += float(loss.detach())
    return total


def overlap(m: Mapping[str, Tensor]) -> Tensor:
    """Sum over layers of |cos(m_c, m_s)|."""
    similarities = [functional.cosine_similarity(m_c, m_s, 0).abs() for m_c, m_s in m.values()]
    return torch.stack(similarities).sum()
