"""LoRA.rar's coefficients, improved for one pair on pictures that the model draws itself."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor, nn

from lorarar.diffusion.pipeline import fastest_device, load_onto
from lorarar.diffusion.two_loras import PairedLinear, carrying, use
from lorarar.errors import LorararError
from lorarar.files import user_cache
from lorarar.hypernet import ROLES, Role
from lorarar.lora import Lora
from lorarar.merge import Coefficients, weighted_sum
from lorarar.methods.factored import predicted
from lorarar.methods.options import MergeOptions
from lorarar.training.denoising import Examples, default_side, embed
from lorarar.training.identity import model_hash
from lorarar.training.loop import train
from lorarar.training.noise import training_scheduler
from lorarar.training.objective import together_loss
from lorarar.unfinished import held

LEARNING_RATE = 0.03
PICTURES, DRAWING_STEPS, GUIDANCE = 4, 10, 5.0  # drawn with each LoRA
BATCH = 1  # pictures of each LoRA in a step
SAVE_EVERY = 10
EXAMPLES: dict[Role, str] = {"content": "a sks dog", "style": "in watercolor style"}


def refined(content: Lora, style: Lora, options: MergeOptions) -> Lora:
    """LoRA.rar, then `options.refine` steps down the objective *together* for this pair alone.

    The prompts are the options', or else what the LoRAs' metadata says (`prompt_of`). Without steps
    this is LoRA.rar. A run that was stopped goes on where it was when it is started again.

    Raises LorararError if there is no hypernetwork, or no prompt for a LoRA.
    """
    m = predicted(content, style, options)
    if options.refine:
        prompt, steps, seed = both_prompts(content, style, options), options.refine, options.seed
        pipeline = load_onto(fastest_device(), options.model, options.precision, use="train")
        about = prompt, steps, seed, model_hash(pipeline)
        work = user_cache("refine") / _fingerprint(content, style, m, about)
        with held(work):
            m = refine_coefficients(
                pipeline, content, style, m, prompt, steps=steps, seed=seed, work=work
            )
            shutil.rmtree(work)
    return weighted_sum(content, style, m, options.content_scale, options.style_scale)


def both_prompts(content: Lora, style: Lora, options: MergeOptions) -> str:
    """Return the prompt that names both, as in 'a sks dog in watercolor style'.

    Raises LorararError if neither the options nor a LoRA's metadata have its part.
    """
    return " ".join(
        (
            options.content_prompt or prompt_of(content, "content"),
            options.style_prompt or prompt_of(style, "style"),
        )
    )


def prompt_of(lora: Lora, role: Role) -> str:
    """Return what calls a LoRA, by its metadata: its trigger phrase, or its training's prompt.

    Of a style's training prompt it is what follows its subject: "in ...".

    Raises LorararError if the metadata do not say.
    """
    said = lora.metadata.get("modelspec.trigger_phrase") or lora.metadata.get("lorarar.prompt")
    if not said:
        raise LorararError(
            f"{lora.source}: does not say what calls it; "
            f"give --{role}-prompt, as '{EXAMPLES[role]}'"
        )
    subject, _, look = said.partition(" in ")
    return f"in {look}" if role == "style" and subject and look else said


def refine_coefficients(
    pipeline: StableDiffusionXLPipeline,
    content: Lora,
    style: Lora,
    m: Mapping[str, np.ndarray],
    prompt: str,
    *,
    steps: int,
    seed: int = 0,
    work: Path,
) -> Coefficients:
    """Return m, (2, in) float32, for every attention projection: from `m` on, down *together*.

    m: of some layers; others start at 1. prompt: names both; with it the model draws a few pictures
    with each LoRA alone, whose noisy latents the objective looks at. work: a folder for the state,
    from where the same call goes on.
    """
    unet = pipeline.unet
    unet.requires_grad_(False)
    scheduler = training_scheduler(pipeline)
    with carrying(unet, content, style) as paired:
        leaves = nn.ParameterList(
            torch.tensor(m[name]) if name in m else torch.ones(2, layer.linear.in_features)
            for name, layer in paired.items()
        ).to(unet.device)
        optimiser = torch.optim.AdamW(leaves, lr=LEARNING_RATE)
        examples = [draw_alone(pipeline, paired, role, prompt, seed) for role in ROLES]

        def step(index: int) -> float:
            ours, theirs = (each.sample(BATCH) for each in examples)
            optimiser.zero_grad()
            named = dict(zip(paired, leaves, strict=True))
            both = ours.concatenate(theirs)
            loss = together_loss(unet, paired, named, both, scheduler=scheduler)
            optimiser.step()
            return loss

        parts = {"m": leaves, "optimiser": optimiser}
        train(step, parts, steps, work, seed=seed, label="refining", save_every=SAVE_EVERY)
        return {
            name: leaf.detach().cpu().numpy() for name, leaf in zip(paired, leaves, strict=True)
        }


@torch.no_grad()
def draw_alone(
    pipeline: StableDiffusionXLPipeline,
    paired: Mapping[str, PairedLinear],
    role: Role,
    prompt: str,
    seed: int,
) -> Examples:
    """Draw a few pictures with one LoRA of those that the UNet carries, as latents."""
    use(paired, role)
    latents: Tensor = pipeline(
        [prompt] * PICTURES,
        generator=[torch.Generator().manual_seed(seed + number) for number in range(PICTURES)],
        num_inference_steps=DRAWING_STEPS,
        guidance_scale=GUIDANCE,
        output_type="latent",
    ).images
    words, pooled = embed(pipeline, [prompt] * PICTURES)
    side = default_side(pipeline)
    sizes = torch.tensor([[side, side, 0, 0, side, side]] * PICTURES, device=latents.device)
    return Examples(latents.float(), words, pooled, sizes)


def _fingerprint(content: Lora, style: Lora, m: Coefficients, about: tuple) -> str:
    """Of all that the result depends on."""
    digest = hashlib.sha256(repr(about).encode())
    for lora in (content, style):
        for name, layer in lora.layers.items():
            digest.update(f"{name} {layer.scale}".encode())
            for factor in (layer.up, layer.down):
                digest.update(np.asarray(factor).tobytes())
    for each in m.values():
        digest.update(each.tobytes())
    return digest.hexdigest()
