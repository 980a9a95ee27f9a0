"""Train a LoRA: DreamBooth (arXiv 2208.12242) with peft adapters on the attention projections."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import StableDiffusionXLPipeline
from diffusers.training_utils import cast_training_params
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor, nn

from lorarar.bases import PROJECTIONS
from lorarar.diffusion.pipeline import draw, load_onto, save_picture
from lorarar.diffusion.prompts import describe_cut
from lorarar.errors import LorararError
from lorarar.files import refuse_existing
from lorarar.hypernet import Role
from lorarar.lora import Layer, Lora
from lorarar.save import save_lora
from lorarar.training.denoising import (
    Examples,
    add_noise,
    default_side,
    encode,
    predict,
    snr_weights,
    without_prompts,
)
from lorarar.training.identity import (
    DIGITS,
    Identity,
    begin,
    image_facts,
    model_hash,
    recipe_facts,
    working_folder,
)
from lorarar.training.images import Example, find_images, load_examples
from lorarar.training.loop import STATE, scaler_of, train
from lorarar.training.noise import Scheduler, training_scheduler
from lorarar.training.recipes import LoraRecipe
from lorarar.unfinished import make_folder


def train_lora(
    model: str | Path | None,
    images: Path,
    prompt: str,
    kind: Role,
    *,
    output: Path,
    recipe: LoraRecipe,
    force: bool = False,
    say: Callable[[str], object] = lambda line: None,
) -> None:
    """Train one LoRA ("content" or "style") on a folder of images and write it to `output`.

    Losses, samples and, until it is done, the training's state are kept in `OUTPUT.training/`,
    from where the same call goes on. say: takes the line that says what is trained on.

    Raises LorararError for bad input, another training's state, a loss that is not finite, or if
    nothing can be written.
    """
    refuse_existing(output, force)
    accelerator = Accelerator(mixed_precision=recipe.precision)
    found = find_images(images)
    examples = found.examples(prompt)
    said = found.describe()
    with working_folder(output, accelerator) as work:
        pipeline = load_onto(accelerator.device, model, recipe.precision, use="train")
        facts = {
            "kind": kind,
            "prompt": prompt,
            **recipe_facts(recipe),
            "processes": accelerator.num_processes,
            "model": model_hash(pipeline),
            **image_facts(images, examples),
            **_facts_of_prior(recipe),
        }
        begin(work, facts, writes=accelerator.is_main_process)
        if accelerator.is_main_process:
            cut = describe_cut(pipeline, [example.prompt for example in examples])
            say("; ".join((said, *cut)))
        side = recipe.side or default_side(pipeline)
        known = encode(pipeline, examples, side)
        prior = load_prior(pipeline, recipe, work / "prior" / _drawn_as(recipe, facts), side)

        def draw_sample(index: int) -> None:
            if recipe.sample_every and index % recipe.sample_every == 0:
                _draw_to(work / f"step-{index:05}.png", pipeline, prompt, recipe.seed)

        lora = fit_adapter(
            pipeline,
            known,
            recipe,
            accelerator,
            work=work,
            label=f"{output.stem} ({kind})",
            prior=prior,
            before_step=draw_sample,
        )
        if accelerator.is_main_process:
            told = {"kind": kind, "prompt": prompt, "steps": recipe.steps, "seed": recipe.seed}
            lora.metadata = {f"lorarar.{key}": str(value) for key, value in told.items()}
            save_lora(lora, output, force=force)
            (work / STATE).unlink()


def _facts_of_prior(recipe: LoraRecipe) -> dict[str, str]:
    if recipe.prior_folder is None:
        return {}
    folder = Path(recipe.prior_folder)
    return image_facts(folder, load_examples(folder, recipe.prior_prompt or ""), of="prior/")


def _drawn_as(recipe: LoraRecipe, facts: Identity) -> str:
    """Name the folder of the prior's pictures by what they depend on."""
    drawn_with = f"{facts['model']} {recipe.seed} {recipe.prior_prompt}"
    return hashlib.sha256(drawn_with.encode()).hexdigest()[:DIGITS]


def fit_adapter(
    pipeline: StableDiffusionXLPipeline,
    known: Examples,
    recipe: LoraRecipe,
    accelerator: Accelerator,
    *,
    work: Path,
    label: str,
    prior: Examples | None = None,
    before_step: Callable[[int], None] = lambda index: None,
) -> Lora:
    """Train a new adapter of the pipeline's UNet on encoded examples, resumable from `work`."""
    unet = add_adapter(pipeline, recipe)
    trained = [weight for weight in unet.parameters() if weight.requires_grad]
    optimiser = _optimiser(trained, recipe)
    wrapped, optimiser = accelerator.prepare(unet, optimiser)
    scheduler = training_scheduler(pipeline)

    def step(index: int) -> float:
        before_step(index)
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * (1 - index / recipe.steps)
        batch = known.sample(recipe.batch)
        if prior is not None:
            batch = batch.concatenate(prior.sample(recipe.batch))
        with accelerator.autocast():
            loss = _weighted_loss(wrapped, scheduler, batch, recipe)
        optimiser.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        return float(accelerator.reduce(loss.detach(), "mean"))

    parts = {"weights": nn.ParameterList(trained), "optimiser": optimiser}
    train(
        step,
        parts | scaler_of(accelerator),
        recipe.steps,
        work,
        seed=recipe.seed,
        label=label,
        process=accelerator.process_index,
    )
    return adapter_of(unet)


def _weighted_loss(unet: Any, scheduler: Scheduler, batch: Examples, recipe: LoraRecipe) -> Tensor:
    """Mean squared error of the first `recipe.batch` examples, plus that of the prior, weighted."""
    noisy = add_noise(scheduler, batch.latents)
    errors = (predict(unet, noisy, batch) - noisy.target.float()).square().mean((1, 2, 3))
    if recipe.snr_gamma:
        errors = errors * snr_weights(scheduler, noisy.times, recipe.snr_gamma)
    own, prior = errors[: recipe.batch], errors[recipe.batch :]
    return own.mean() + recipe.prior_weight * prior.mean() if len(prior) else own.mean()


def add_adapter(pipeline: StableDiffusionXLPipeline, recipe: LoraRecipe) -> Any:
    """Freeze the pipeline and put a new adapter, in float32, into its UNet, which is returned."""
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        part.requires_grad_(False)
    torch.manual_seed(recipe.seed)
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.rank,
        init_lora_weights="gaussian",
        target_modules=list(PROJECTIONS),
    )
    pipeline.unet.add_adapter(config)
    cast_training_params(pipeline.unet)
    if recipe.checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
    return pipeline.unet


def adapter_of(unet: Any) -> Lora:
    """Return the UNet's adapter as a float16 LoRA."""
    tensors = {
        name: tensor.detach().cpu().half().numpy()
        for name, tensor in get_peft_model_state_dict(unet).items()
    }
    layers = {
        f"unet.{name.removesuffix('.lora_A.weight')}": Layer(
            tensors[name.replace("lora_A", "lora_B")], down
        )
        for name, down in tensors.items()
        if name.endswith(".lora_A.weight")
    }
    return Lora(layers)


def _optimiser(weights: list[nn.Parameter], recipe: LoraRecipe) -> Any:
    if not recipe.adam_8bit:
        return torch.optim.AdamW(weights, lr=recipe.learning_rate)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise LorararError(
            "--adam-8bit needs bitsandbytes; run: pip install bitsandbytes"
        ) from error
    return AdamW8bit(weights, lr=recipe.learning_rate)


def _draw_to(path: Path, pipeline: StableDiffusionXLPipeline, prompt: str, seed: int) -> None:
    save_picture(draw(pipeline, [prompt], [seed])[0], path, force=True)


def load_prior(
    pipeline: StableDiffusionXLPipeline, recipe: LoraRecipe, folder: Path, side: int
) -> Examples | None:
    """What shall stay as it is: the recipe's pictures, or the class as the model draws it.

    Those of the model are drawn into `folder`, before anything is trained.
    """
    if recipe.prior_folder is not None:
        listed = load_examples(Path(recipe.prior_folder), recipe.prior_prompt or "")
    elif recipe.prior_prompt is not None:
        listed = _draw_prior(pipeline, recipe, recipe.prior_prompt, folder)
    else:
        return None
    known = encode(pipeline, listed, side)
    return known.concatenate(without_prompts(pipeline, known)) if recipe.prior_unprompted else known


def _draw_prior(
    pipeline: StableDiffusionXLPipeline, recipe: LoraRecipe, prompt: str, folder: Path
) -> list[Example]:
    make_folder(folder)
    listed = [Example(folder / f"{n:03}.png", prompt) for n in range(recipe.prior_images)]
    for number, example in enumerate(listed):
        if not example.image.exists():
            _draw_to(example.image, pipeline, prompt, recipe.seed + number)
    return listed
