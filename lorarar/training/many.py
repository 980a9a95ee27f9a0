"""Train every LoRA of a manifest: one after another here, or side by side through Ray."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from lorarar.artefacts.training import Entry, TrainingManifest, load_manifest
from lorarar.errors import LorararError
from lorarar.training.lora import train_lora
from lorarar.training.recipes import LoraRecipe


def train_many(model: str | Path | None, manifest: Path, workers: int | None = None) -> list[Path]:
    """Train what the manifest names and does not exist yet; return the new files.

    workers: None trains here, one after another; a number lets Ray (`lorarar[cluster]`) train so
    many at a time, on the cluster of RAY_ADDRESS or on this machine. All of them must see the
    manifest's folder and its images at the same path. What is killed goes on where it was.

    Raises LorararError for bad input, naming the LoRA.
    """
    known = load_manifest(manifest)
    recipe = recipe_of(known)
    missing = [entry for entry in known.loras if not entry.file.exists()]
    if workers is None:
        for entry in missing:
            _train(model, entry, recipe)
    else:
        _through_ray(model, missing, recipe, workers)
    return [entry.file for entry in missing]


def recipe_of(manifest: TrainingManifest) -> LoraRecipe:
    """Return the manifest's recipe; its `prior_folder` is relative to the images' root.

    Raises LorararError for options that no recipe has, and for values of another type or range.
    """
    from pydantic import ConfigDict, Field, ValidationError, create_model

    options: dict[str, Any] = {
        option.name: (option.type, Field(option.default, **option.metadata))
        for option in fields(LoraRecipe)
    }
    unknown = manifest.recipe.keys() - options.keys()
    if unknown:
        raise LorararError(
            f"{manifest.path}: recipe has unknown {', '.join(sorted(unknown))}; "
            f"it may have {', '.join(sorted(options))}"
        )
    checked = create_model("LoraRecipe", __config__=ConfigDict(strict=True), **options)
    try:
        recipe = LoraRecipe(**checked(**manifest.recipe).model_dump())
    except ValidationError as error:
        wrong = error.errors()[0]
        raise LorararError(
            f"{manifest.path}: recipe's {wrong['loc'][0]} is {wrong['input']!r}: {wrong['msg']}"
        ) from error
    if recipe.prior_folder is None:
        return recipe
    return replace(recipe, prior_folder=str(manifest.image_root / recipe.prior_folder))


def _train(model: str | Path | None, entry: Entry, recipe: LoraRecipe) -> None:
    train_lora(model, entry.images, entry.prompt, entry.kind, output=entry.file, recipe=recipe)


def _through_ray(
    model: str | Path | None, entries: list[Entry], recipe: LoraRecipe, workers: int
) -> None:
    try:
        import ray
    except ImportError as error:
        raise LorararError("--workers needs Ray; run: pip install 'lorarar[cluster]'") from error
    ray.init(ignore_reinit_error=True, include_dashboard=False)
    train = ray.remote(_train).options(max_retries=2)
    waiting = list(entries)
    running: list = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(train.remote(model, waiting.pop(0), recipe))
            finished, running = ray.wait(running)
            ray.get(finished)
    except ray.exceptions.RayTaskError as error:
        raise LorararError(str(error.cause).splitlines()[0]) from error
    finally:
        ray.shutdown()
