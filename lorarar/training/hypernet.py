"""Train the hypernetwork on random pairs of LoRAs (arXiv 2412.05148, section 3.3)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import StableDiffusionXLPipeline
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from lorarar.artefacts.training import Entry, TrainingManifest, check_trained, load_manifest
from lorarar.bases import Shape
from lorarar.diffusion.pipeline import load_onto
from lorarar.diffusion.two_loras import (
    Pair,
    PairedLinear,
    carry,
    lora_shapes,
    pair_up,
    pairs_of,
    torch_factors,
)
from lorarar.errors import LorararError
from lorarar.files import refuse_existing
from lorarar.hypernet import ROLES, Role, is_predicted, save_hypernet
from lorarar.lora import load_lora
from lorarar.plot import plot_losses
from lorarar.training.denoising import Examples, default_side, encode, naming_both
from lorarar.training.identity import (
    begin,
    lora_facts,
    model_hash,
    recipe_facts,
    working_folder,
)
from lorarar.training.images import find_images, load_examples, together
from lorarar.training.loop import LOSSES, STATE, scaler_of, train
from lorarar.training.noise import Scheduler, training_scheduler
from lorarar.training.objective import merge_loss, overlap, together_loss
from lorarar.training.recipes import HypernetRecipe
from lorarar.training.torch_hypernet import Best, TorchHypernet

VALIDATION_BATCHES = 4
Names = tuple[str, str]  # of a content and a style LoRA


@dataclass(frozen=True)
class KnownLora:
    """A LoRA's file with the images that it was trained on, encoded, and their prompts."""

    file: Path
    phrase: str
    examples: Examples
    prompts: list[str]


@dataclass(frozen=True, kw_only=True)
class PairedModel:
    """What is asked: a frozen UNet that carries one pair of LoRAs at a time, and their images.

    shapes: of its attention projections, (out, in); paired: the projections.
    """

    pipeline: StableDiffusionXLPipeline
    scheduler: Scheduler
    shapes: dict[str, Shape]
    paired: dict[str, PairedLinear]
    loras: dict[str, KnownLora]


@dataclass(frozen=True, kw_only=True)
class HypernetTraining:
    """What a training holds from its first step to its last."""

    recipe: HypernetRecipe
    accelerator: Accelerator
    model: PairedModel
    hypernet: nn.Module  # a TorchHypernet, perhaps wrapped for several devices
    optimiser: torch.optim.Optimizer
    schedule: LambdaLR
    best: Best


def train_hypernet(
    model: str | Path | None,
    loras: Path,
    output: Path,
    recipe: HypernetRecipe,
    *,
    force: bool = False,
    say: Callable[[str], object] = lambda line: None,
) -> None:
    """Train on the LoRAs of a manifest (see `lorarar.artefacts.training`) and write `output`.

    Each step draws a training pair and a batch of each LoRA's examples. No dW is built: gradients
    reach the hypernetwork through m alone. Losses, their picture and, until it is done, the
    training's state are kept in `OUTPUT.training/`, from where the same call goes on. Run it with
    `accelerate launch -m lorarar train ...` on several devices: each then takes pairs of its own.
    say: takes the line that says what images are trained on.

    Raises LorararError for bad input, another training's state, a loss that is not finite, or if
    nothing can be written.
    """
    refuse_existing(output, force)
    manifest = load_manifest(loras)
    pairs, validation = split_pairs(manifest, recipe)
    check_trained(manifest, held_out=False)
    _check_objective(manifest, recipe)
    folders = [find_images(entry.images) for entry in manifest.loras if not entry.held_out]
    said = together(manifest.path, folders).describe()
    accelerator = Accelerator(mixed_precision=recipe.precision)
    with working_folder(output, accelerator) as work:
        pipeline = load_onto(accelerator.device, model, recipe.precision, use="train")
        facts = {
            **recipe_facts(recipe),
            "processes": accelerator.num_processes,
            "model": model_hash(pipeline),
            **lora_facts(manifest),
        }
        begin(work, facts, writes=accelerator.is_main_process)
        if accelerator.is_main_process:
            say(said)
        training = _set_up(pipeline, manifest, recipe, accelerator, first=pairs[0])
        parts = {
            "hypernet": accelerator.unwrap_model(training.hypernet),
            "optimiser": training.optimiser,
            "schedule": training.schedule,
            "best": training.best,
        }
        train(
            lambda index: _step(training, pairs),
            parts | scaler_of(accelerator),
            recipe.steps,
            work,
            seed=recipe.seed,
            label="hypernetwork",
            save_every=recipe.save_every,
            process=accelerator.process_index,
            validate=lambda: _validate(training, validation),
        )
        if accelerator.is_main_process:
            trained = accelerator.unwrap_model(training.hypernet)
            trained.load_state_dict(training.best.weights)
            save_hypernet(trained.frozen(), output, force)
            plot_losses(work / LOSSES, work / "loss.png")
            (work / STATE).unlink()


def split_pairs(
    manifest: TrainingManifest, recipe: HypernetRecipe
) -> tuple[list[Names], list[Names]]:
    """Split the pairs of LoRAs that are not held out into training and validation, by the seed.

    Raises LorararError if there are too few.
    """
    content, style = ([e.name for e in manifest.of(kind, held_out=False)] for kind in ROLES)
    pairs = list(product(content, style))
    kept = recipe.validation_pairs
    if len(pairs) <= kept or kept < 1:
        raise LorararError(
            f"{manifest.path}: {len(content)} content and {len(style)} style LoRAs make "
            f"{len(pairs)} pairs, too few to validate on {kept}; add LoRAs"
        )
    order = np.random.default_rng(recipe.seed).permutation(len(pairs))
    shuffled = [pairs[index] for index in order]
    return shuffled[kept:][: recipe.pairs], shuffled[:kept]


def _check_objective(manifest: TrainingManifest, recipe: HypernetRecipe) -> None:
    for entry in manifest.of("style", held_out=False):
        if recipe.objective == "together" and not entry.phrase:
            raise LorararError(
                f"{manifest.path}: gives '{entry.file.name}' no phrase, which --objective together "
                'adds to prompts; add "phrase": "in ... style"'
            )


def _set_up(
    pipeline: StableDiffusionXLPipeline,
    manifest: TrainingManifest,
    recipe: HypernetRecipe,
    accelerator: Accelerator,
    *,
    first: Names,
) -> HypernetTraining:
    """Prepare what is asked and make what is trained; first: the pair its inputs are scaled to.

    Raises LorararError if the recipe predicts no layer of the model.
    """
    model = _paired_model(pipeline, manifest, recipe)
    predicted = {
        name: shape for name, shape in model.shapes.items() if is_predicted(name, recipe.predicts)
    }
    if not predicted:
        raise LorararError(f"--predicts {' '.join(recipe.predicts)}: names no layer of this model")
    torch.manual_seed(recipe.seed)
    hypernet = TorchHypernet(predicted, recipe).to(accelerator.device)
    pairs = _load_pair(model, first)
    hypernet.scale_inputs({name: pairs[name] for name in predicted})
    groups: list[dict[str, Any]] = [
        {"params": [*hypernet.inputs.parameters(), *hypernet.output.parameters()]},
        {"params": [*hypernet.offsets.parameters()], "lr": recipe.offsets},
    ]
    optimiser = torch.optim.AdamW(groups, recipe.learning_rate)
    last = recipe.steps if recipe.decay else float("inf")
    schedule = LambdaLR(optimiser, lambda index: (1 + cos(pi * index / last)) / 2)
    wrapped, optimiser = accelerator.prepare(hypernet, optimiser)
    return HypernetTraining(
        recipe=recipe,
        accelerator=accelerator,
        model=model,
        hypernet=wrapped,
        optimiser=optimiser,
        schedule=schedule,
        best=Best(),
    )


def _paired_model(
    pipeline: StableDiffusionXLPipeline, manifest: TrainingManifest, recipe: HypernetRecipe
) -> PairedModel:
    side = recipe.side or default_side(pipeline)
    loras = {e.name: _encode_lora(pipeline, e, side) for e in manifest.loras if not e.held_out}
    unet = pipeline.unet.requires_grad_(False)
    if recipe.checkpointing:
        unet.enable_gradient_checkpointing()
    shapes = lora_shapes(unet)
    return PairedModel(
        pipeline=pipeline,
        scheduler=training_scheduler(pipeline),
        shapes=shapes,
        paired=pair_up(unet, list(shapes)),
        loras=loras,
    )


def _encode_lora(pipeline: StableDiffusionXLPipeline, entry: Entry, side: int) -> KnownLora:
    listed = load_examples(entry.images, entry.prompt)
    encoded = encode(pipeline, listed, side)
    return KnownLora(entry.file, entry.phrase, encoded, [example.prompt for example in listed])


def _load_pair(model: PairedModel, names: Names) -> dict[str, Pair]:
    device = model.pipeline.unet.device
    loras = (load_lora(model.loras[name].file) for name in names)
    return pairs_of(*(torch_factors(lora, model.shapes, device) for lora in loras))


def _step(training: HypernetTraining, pairs: list[Names]) -> float:
    """Learn from a random pair; returns the loss.

    The UNet's gradients end in leaves, pass after pass; from there the hypernetwork takes their
    sum at once.
    """
    accelerator = training.accelerator
    names = pairs[int(torch.randint(len(pairs), ()))]
    m = _coefficients(training, names)
    leaves = {name: each.detach().requires_grad_() for name, each in m.items()}
    loss = _loss(training, names, leaves)
    penalty = training.recipe.similarity * overlap(leaves)
    accelerator.backward(penalty)
    training.optimiser.zero_grad()
    torch.autograd.backward(list(m.values()), [leaf.grad for leaf in leaves.values()])
    training.optimiser.step()
    training.schedule.step()
    return float(accelerator.reduce(loss + penalty.detach(), "mean"))


@torch.no_grad()
def _validate(training: HypernetTraining, pairs: list[Names]) -> float:
    """Return the mean loss, and keep the weights if it is the lowest yet."""
    losses = [
        _loss(training, names, _coefficients(training, names))
        for names in pairs * VALIDATION_BATCHES
    ]
    loss = sum(losses) / len(losses)
    training.best.offer(loss, training.accelerator.unwrap_model(training.hypernet))
    return loss


def _coefficients(training: HypernetTraining, names: Names) -> dict[str, Tensor]:
    """Let the UNet carry a pair, and predict its coefficients."""
    pairs = _load_pair(training.model, names)
    carry(training.model.paired, pairs)
    predicts = training.recipe.predicts
    coefficients: dict[str, Tensor] = training.hypernet(
        {name: pair for name, pair in pairs.items() if is_predicted(name, predicts)}
    )
    return coefficients


def _loss(training: HypernetTraining, names: Names, m: Mapping[str, Tensor]) -> float:
    """The recipe's objective on fresh batches; where gradients are enabled, it adds them to m."""
    recipe, model = training.recipe, training.model
    content, style = (model.loras[name] for name in names)
    batches: dict[Role, Examples] = {
        "content": content.examples.sample(recipe.batch),
        "style": style.examples.sample(recipe.batch),
    }
    unet, paired, scheduler = model.pipeline.unet, model.paired, model.scheduler
    backward = training.accelerator.backward  # scales losses in fp16
    with training.accelerator.autocast():
        if recipe.objective == "published":
            return merge_loss(unet, paired, m, batches, scheduler=scheduler, backward=backward)
        images = batches["content"].concatenate(batches["style"])
        both = naming_both(model.pipeline, images, content.prompts, style.phrase)
        return together_loss(unet, paired, m, both, scheduler=scheduler, backward=backward)
