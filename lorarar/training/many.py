"""Train every LoRA of a manifest: one after another here, or side by side through Ray."""

import os
import socket
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lorarar.artefacts.training import Entry, TrainingManifest, load_manifest
from lorarar.errors import LorararError
from lorarar.training.lora import train_lora
from lorarar.training.recipes import LoraRecipe


def train_many(
    model: str | Path | None,
    manifest: Path,
    workers: int | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> list[Path]:
    """Train what the manifest names and does not exist yet; return the new files.

    workers: None trains here, one after another; a number lets Ray (`lorarar[cluster]`) train so
    many at a time, on the cluster of RAY_ADDRESS or on this machine. All of them must see the
    manifest's folder and its images at the same path. What is killed goes on where it was.
    say: takes a line for each LoRA, of what it is trained on; Ray's workers print it.

    Raises LorararError for bad input, naming the LoRA, or if Ray or a worker of its is lost.
    """
    known = load_manifest(manifest)
    recipe = recipe_of(known)
    missing = [entry for entry in known.loras if not entry.file.exists()]
    if workers is None:
        for entry in missing:
            _train(model, entry, recipe, say)
    else:
        _through_ray(model, missing, recipe, workers)
    return [entry.file for entry in missing]


def recipe_of(manifest: TrainingManifest) -> LoraRecipe:
    """Return the manifest's recipe; its `prior_folder` is relative to the images' root.

    Raises LorararError for options that no recipe has, and for values of another type or range.
    """
    options = {option.name for option in fields(LoraRecipe)}
    unknown = manifest.recipe.keys() - options
    if unknown:
        raise LorararError(
            f"{manifest.path}: recipe has unknown {', '.join(sorted(unknown))}; "
            f"it may have {', '.join(sorted(options))}"
        )
    try:
        recipe = LoraRecipe(**manifest.recipe)
    except LorararError as error:
        raise LorararError(f"{manifest.path}: {error}") from error
    if recipe.prior_folder is None:
        return recipe
    return replace(recipe, prior_folder=str(manifest.image_root / recipe.prior_folder))


def _train(
    model: str | Path | None, entry: Entry, recipe: LoraRecipe, say: Callable[[str], object]
) -> None:
    images, prompt, kind = entry.images, entry.prompt, entry.kind
    train_lora(model, images, prompt, kind, output=entry.file, recipe=recipe, say=say)


def _through_ray(
    model: str | Path | None, entries: list[Entry], recipe: LoraRecipe, workers: int
) -> None:
    try:
        import ray
    except ImportError as error:
        raise LorararError("--workers needs Ray; run: pip install 'lorarar[cluster]'") from error
    address = os.environ.get("RAY_ADDRESS", "")
    try:
        _check_listens(address)
        ray.init(ignore_reinit_error=True, include_dashboard=False)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise LorararError(
            f"Ray cannot be reached or begun at {address or 'this machine'} "
            f"({_first_line(error)}); set RAY_ADDRESS to a cluster that runs, or unset it to "
            "train on this machine"
        ) from error
    train = ray.remote(_train).options(max_retries=2)
    waiting = list(entries)
    running: dict[Any, Entry] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                entry = waiting.pop(0)
                running[train.remote(model, entry, recipe, print)] = entry  # Ray shows it here
            (finished,), _ = ray.wait(list(running))
            _check_trained(finished, running.pop(finished))
    finally:
        ray.shutdown()


def _check_listens(address: str) -> None:
    """Raises OSError within seconds where nobody listens, which takes Ray many minutes."""
    place = urlsplit(address if "//" in address else f"//{address}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), timeout=10).close()


def _check_trained(finished: Any, entry: Entry) -> None:
    """Raises LorararError if a worker did not train its LoRA."""
    import ray

    try:
        ray.get(finished)
    except ray.exceptions.OutOfMemoryError as error:
        raise LorararError(
            f"{entry.file}: its worker was ended for want of memory; use fewer --workers, or in "
            "the recipe precision bf16, checkpointing or a smaller batch or side"
        ) from error
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, LorararError):
            raise LorararError(str(error.cause)) from error
        raise LorararError(
            f"{entry.file}: its worker failed ({_first_line(error.cause)}); "
            "without --workers there is more to read"
        ) from error
    except ray.exceptions.RayError as error:
        raise LorararError(
            f"{entry.file}: its worker was lost ({_first_line(error)}); run this again: what was "
            "begun goes on"
        ) from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
