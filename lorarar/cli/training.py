"""The command line's training commands."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lorarar.cli.options import Model, Output, Positive, draw_missing_images, say
from lorarar.command import Force
from lorarar.hypernet import Role
from lorarar.methods.options import Precision
from lorarar.training.recipes import HypernetRecipe, LoraRecipe, Objective

commands = typer.Typer()

Side = Annotated[int | None, typer.Option(min=8, help="pixels; the model's own by default")]
Checkpointing = Annotated[
    bool, typer.Option("--checkpointing", help="gradient checkpointing: less memory, more time")
]


@commands.command("train-lora")
def train_lora(
    images: Annotated[Path, typer.Option(help="folder; metadata.jsonl or .txt may caption images")],
    prompt: Annotated[str, typer.Option(help="what images without a caption show")],
    kind: Annotated[Role, typer.Option()],
    output: Output,
    model: Model = None,
    rank: Positive = LoraRecipe.rank,
    steps: Positive = LoraRecipe.steps,
    learning_rate: float = LoraRecipe.learning_rate,
    batch: Positive = LoraRecipe.batch,
    side: Side = LoraRecipe.side,
    seed: int = LoraRecipe.seed,
    precision: Precision = "no",
    checkpointing: Checkpointing = False,
    adam_8bit: Annotated[bool, typer.Option("--adam-8bit", help="needs bitsandbytes")] = False,
    prior_prompt: Annotated[
        str | None, typer.Option(help="prior preservation: the class, as in 'a dog'")
    ] = None,
    prior_folder: Annotated[
        str | None, typer.Option(help="prior preservation: pictures with captions to keep")
    ] = None,
    prior_images: Positive = LoraRecipe.prior_images,
    prior_weight: float = LoraRecipe.prior_weight,
    prior_unprompted: Annotated[
        bool, typer.Option("--prior-unprompted", help="keep also what is drawn without a prompt")
    ] = False,
    snr_gamma: Annotated[
        float, typer.Option(min=0, help="min-SNR weights, as 5; 0: none")
    ] = LoraRecipe.snr_gamma,
    sample_every: Annotated[int, typer.Option(min=0, help="steps; 0: never")] = 0,
    force: Force = False,
) -> None:
    """Train a content or style LoRA on a folder of images (DreamBooth); resumes if killed."""
    from lorarar.training.lora import train_lora

    recipe = LoraRecipe(
        rank=rank,
        steps=steps,
        learning_rate=learning_rate,
        batch=batch,
        side=side,
        seed=seed,
        precision=precision,
        checkpointing=checkpointing,
        adam_8bit=adam_8bit,
        prior_prompt=prior_prompt,
        prior_folder=prior_folder,
        prior_images=prior_images,
        prior_weight=prior_weight,
        prior_unprompted=prior_unprompted,
        snr_gamma=snr_gamma,
        sample_every=sample_every,
    )
    train_lora(
        model, images, prompt, kind, output=output, recipe=recipe, force=force, say=_say_aside
    )
    typer.echo(f"{output}: trained, rank {rank}, {steps} steps")


@commands.command()
def train(
    loras: Annotated[Path, typer.Option(help="folder with a manifest.json, or the manifest")],
    output: Output,
    model: Model = None,
    steps: Positive = HypernetRecipe.steps,
    hidden: Positive = HypernetRecipe.hidden,
    predicts: Annotated[str, typer.Option(help="projections, by comma")] = ",".join(
        HypernetRecipe.predicts
    ),
    similarity: Annotated[float, typer.Option(help="lambda")] = HypernetRecipe.similarity,
    learning_rate: float = HypernetRecipe.learning_rate,
    batch: Positive = HypernetRecipe.batch,
    pairs: Annotated[int | None, typer.Option(min=1, help="training pairs; all by default")] = None,
    validation_pairs: Positive = HypernetRecipe.validation_pairs,
    side: Side = HypernetRecipe.side,
    seed: int = HypernetRecipe.seed,
    precision: Precision = "no",
    checkpointing: Checkpointing = False,
    objective: Annotated[
        Objective, typer.Option(help="together: on prompts that name both")
    ] = HypernetRecipe.objective,
    offsets: Annotated[
        float, typer.Option(min=0, help="learning rate of each layer's offset; 0: none")
    ] = HypernetRecipe.offsets,
    decay: Annotated[bool, typer.Option("--decay", help="learning rates fall to zero")] = False,
    force: Force = False,
) -> None:
    """Train the hypernetwork on pairs of LoRAs; resumes if killed."""
    from lorarar.training.hypernet import train_hypernet

    draw_missing_images(loras)
    recipe = HypernetRecipe(
        steps=steps,
        hidden=hidden,
        predicts=tuple(predicts.split(",")),
        similarity=similarity,
        learning_rate=learning_rate,
        batch=batch,
        pairs=pairs,
        validation_pairs=validation_pairs,
        side=side,
        seed=seed,
        precision=precision,
        checkpointing=checkpointing,
        objective=objective,
        offsets=offsets,
        decay=decay,
    )
    train_hypernet(model, loras, output, recipe, force=force, say=_say_aside)
    typer.echo(f"{output}: trained, {steps} steps; losses in {output}.training")


@commands.command("train-many")
def train_many(
    manifest: Path,
    model: Model = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="so many at a time, through Ray")
    ] = None,
) -> None:
    """Train every LoRA of a manifest that does not exist yet; resumes if killed."""
    from lorarar.training.many import train_many

    draw_missing_images(manifest)
    trained = train_many(model, manifest, workers, _say_aside)
    typer.echo(f"{manifest}: {len(trained)} LoRAs trained")


def _say_aside(line: str) -> None:
    say(line, Console(stderr=True))
