"""ZipLoRA (arXiv 2311.13600, section 3.3): optimise the coefficients of one pair."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from rich.progress import Progress
from torch import Tensor

from lorarar.artefacts.training import load_manifest
from lorarar.diffusion.pipeline import fastest_device, load_onto
from lorarar.diffusion.two_loras import PairedLinear, carrying
from lorarar.errors import LorararError
from lorarar.hypernet import ROLES, Role
from lorarar.lora import Lora
from lorarar.merge import Coefficients, weighted_sum
from lorarar.methods.options import MergeOptions
from lorarar.training.denoising import Examples, default_side, encode
from lorarar.training.images import load_examples
from lorarar.training.noise import Scheduler, training_scheduler
from lorarar.training.objective import merge_loss, overlap

STEPS = 100
LEARNING_RATE = 0.01
SIMILARITY = 0.01


def ziplora(content: Lora, style: Lora, options: MergeOptions) -> Lora:
    """Merge with coefficients optimised for this pair; images and prompts from manifests.

    Raises LorararError if a LoRA's folder has no manifest that describes it.
    """
    pipeline = load_onto(fastest_device(), options.model, options.precision, use="train")
    examples = {
        role: examples_of(Path(lora.source), pipeline)
        for role, lora in zip(ROLES, (content, style), strict=True)
    }
    scheduler = training_scheduler(pipeline)
    with Progress(transient=True) as progress:
        task = progress.add_task("ZipLoRA", total=STEPS)
        m = optimise(
            pipeline.unet,
            scheduler,
            content,
            style,
            examples=examples,
            steps=STEPS,
            after_step=lambda: progress.advance(task),
            seed=options.seed,
        )
    return weighted_sum(content, style, m, options.content_scale, options.style_scale)


def examples_of(lora: Path, pipeline: StableDiffusionXLPipeline) -> Examples:
    """Encode the images and prompts that the manifest beside a LoRA names for it."""
    manifest = load_manifest(lora.parent)
    for entry in manifest.loras:
        if entry.file.name == lora.name:
            found = load_examples(entry.images, entry.prompt)
            return encode(pipeline, found, default_side(pipeline))
    raise LorararError(
        f"{manifest.path}: does not describe '{lora.name}'; add its images and prompt"
    )


def optimise(
    unet: Any,
    scheduler: Scheduler,
    content: Lora,
    style: Lora,
    *,
    examples: Mapping[Role, Examples],
    after_step: Callable[[], object],
    steps: int = STEPS,
    batch: int = 1,
    seed: int = 0,
) -> Coefficients:
    """Return m, (2, in) float32, for every attention projection, from m = 1 on.

    Each step draws `batch` examples of each role. The penalty is the paper's |m_c . m_s|, taken
    as a cosine as in LoRA.rar, so that one weight suits layers of any width.
    """

    def add_gradients(paired: Mapping[str, PairedLinear], m: Mapping[str, Tensor]) -> None:
        batches = {role: known.sample(batch) for role, known in examples.items()}
        merge_loss(unet, paired, m, batches, scheduler=scheduler)
        (SIMILARITY * overlap(m)).backward()

    return descend(
        unet,
        content,
        style,
        add_gradients,
        steps=steps,
        learning_rate=LEARNING_RATE,
        seed=seed,
        after_step=after_step,
    )


def descend(
    unet: Any,
    content: Lora,
    style: Lora,
    add_gradients: Callable[[Mapping[str, PairedLinear], Mapping[str, Tensor]], object],
    *,
    steps: int,
    learning_rate: float,
    seed: int = 0,
    after_step: Callable[[], object] = lambda: None,
) -> Coefficients:
    """Return m, (2, in) float32, for every attention projection: from m = 1 on, down an objective.

    add_gradients: adds its gradients to the leaves m, given the UNet's layers that carry the pair.
    """
    unet.requires_grad_(False)
    with carrying(unet, content, style) as paired:
        m = {
            name: torch.ones(2, layer.linear.in_features, device=unet.device, requires_grad=True)
            for name, layer in paired.items()
        }
        optimiser = torch.optim.AdamW(m.values(), lr=learning_rate)
        torch.manual_seed(seed)
        for _ in range(steps):
            add_gradients(paired, m)
            optimiser.step()
            optimiser.zero_grad()
            after_step()
    return {name: each.detach().cpu().numpy() for name, each in m.items()}
