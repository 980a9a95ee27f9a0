"""The training images of the small world, drawn from their seeds when they are needed.

python -m lorarar.mini.pictures
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import track

from lorarar.artefacts.training import load_manifest
from lorarar.command import run_script
from lorarar.embedded import LORAS
from lorarar.errors import LorararError
from lorarar.mini.styles import STYLES
from lorarar.mini.training import base_drawing
from lorarar.mini.world import (
    SUBJECTS,
    WORLD_SEED,
    draw,
    prompt_for,
    random_individual,
    random_scene,
)
from lorarar.training.images import write_examples
from lorarar.unfinished import sweep_beside, unfinished_folder

IMAGES = 20  # per LoRA
PRIOR = "prior"
PRIOR_IMAGES = 120  # of what the base was trained on, which no LoRA shall change
FOLDERS = (PRIOR, *SUBJECTS, *STYLES)
PIXELS_SHA256 = "159630630219c25910561c54b2b9ec0e661b7dbb3004e21a384d734eb763023d"
Captioned = list[tuple[np.ndarray, str]]  # drawings, (64, 64, 3) in [0, 1], and what they show


def draw_training_images(loras: Path) -> None:
    """Draw what a manifest's images lack, if they are drawn when they are needed.

    loras: the manifest or its folder. Each folder of images appears whole or not at all, so that
    what was stopped goes on, and processes may draw side by side.

    Raises LorararError if the manifest cannot be read, its images are of another world than this
    one, or they cannot be written.
    """
    manifest = load_manifest(loras)
    if manifest.drawn is None:
        return
    if manifest.drawn != PIXELS_SHA256:
        raise LorararError(
            f"{manifest.path}: its images are of another version of the small world "
            f"({manifest.drawn}); make its LoRAs anew: python -m lorarar.mini.build"
        )
    folders = {name: manifest.image_root / "images" / name for name in FOLDERS}
    missing = {name: folder for name, folder in folders.items() if not folder.exists()}
    for name in track(missing, "drawing training images", transient=True, disable=not missing):
        if not missing[name].exists():  # another process may have been here meanwhile
            _write_whole(missing[name], images_of(name))


def _write_whole(folder: Path, pictures: Captioned) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep_beside(folder)
        with unfinished_folder(folder) as part:
            write_examples(part / "new", pictures)
            (part / "new").rename(folder)
    except OSError as error:
        if not folder.exists():
            raise LorararError(f"{folder}: cannot be written ({error}); free some space") from error


def images_of(folder: str) -> Captioned:
    """Draw the images of a subject, a style or the prior, with their captions."""
    if folder == PRIOR:
        return _prior()
    return _of_subject(folder) if folder in SUBJECTS else _of_style(folder)


def _prior() -> Captioned:
    generator = np.random.default_rng((WORLD_SEED, 300))
    drawn = (base_drawing(generator) for _ in range(PRIOR_IMAGES))
    return [(pixels / 255, caption) for pixels, caption in drawn]


def _of_subject(token: str) -> Captioned:
    generator = np.random.default_rng((WORLD_SEED, 100, list(SUBJECTS).index(token)))
    scenes = [random_scene(SUBJECTS[token], generator) for _ in range(IMAGES)]
    return [(draw(scene), prompt_for(scene, token)) for scene in scenes]


def _of_style(style: str) -> Captioned:
    generator = np.random.default_rng((WORLD_SEED, 200, list(STYLES).index(style)))
    scenes = [random_scene(random_individual(generator), generator) for _ in range(IMAGES)]
    return [
        (draw(scene, STYLES[style], number), prompt_for(scene, style=style))
        for number, scene in enumerate(scenes)
    ]


def main(loras: Annotated[Path, typer.Argument(help="a manifest or its folder")] = LORAS) -> None:
    """Draw the training images of the embedded LoRAs."""
    draw_training_images(loras)


if __name__ == "__main__":
    run_script(main)
