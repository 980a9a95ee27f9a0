"""Drawings of the small world to try a judge on: what they show and do not show is known."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from lorarar.evaluate.calls import picture_id
from lorarar.evaluate.folder import MANIFEST
from lorarar.evaluate.votes import COLUMNS
from lorarar.files import LISTING, write_folder_atomically
from lorarar.mini.styles import PLAIN, STYLES
from lorarar.mini.world import SIZE, SUBJECTS, draw, random_individual, random_scene

REFERENCES = 3


def write_drawings(
    output: Path, pictures: int = 200, seed: int = 0, scale: int = 1, force: bool = False
) -> None:
    """Write `pictures/`, `references/` and `truth.csv`: votes of a rater who knows.

    Every second picture shows another subject than the one it is said to show, every second pair
    of pictures another style. scale: of the side of 64 pixels, for models that expect larger ones.

    Raises LorararError if `output` exists and may not be replaced, or cannot be written.
    """
    write_folder_atomically(output, lambda folder: _fill(folder, pictures, seed, scale), force)


def _fill(folder: Path, pictures: int, seed: int, scale: int) -> None:
    generator = np.random.default_rng(seed)
    lines, votes = [], []
    for number in range(pictures):
        subject, other = map(str, generator.choice([*SUBJECTS], 2, replace=False))
        style, look = map(str, generator.choice([*STYLES], 2, replace=False))
        right = {"subject": number % 2 == 0, "style": number // 2 % 2 == 0}
        path = folder / "pictures" / f"{number:05}.png"
        shown, looks = subject if right["subject"] else other, style if right["style"] else look
        _save(path, shown, looks, generator, scale)
        lines.append({"file_name": path.name, "subject": subject, "style": style})
        for question, is_right in right.items():
            votes.append(("truth", question, picture_id(path), "", "yes" if is_right else "no"))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "pictures" / MANIFEST).write_text(text)
    for number in range(REFERENCES):
        for subject in SUBJECTS:
            path = folder / "references" / "subjects" / subject / f"{number}.png"
            _save(path, subject, None, generator, scale)
        for style in STYLES:
            path = folder / "references" / "styles" / style / f"{number}.png"
            _save(path, None, style, generator, scale)
    with (folder / "truth.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *votes])
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    (folder / LISTING).write_text(json.dumps({"files": sorted(files)}, indent=1))


def _save(
    path: Path, subject: str | None, style: str | None, generator: np.random.Generator, scale: int
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    individual = SUBJECTS[subject] if subject else random_individual(generator)
    looks = STYLES[style] if style else PLAIN
    pixels = draw(random_scene(individual, generator), looks, int(generator.integers(2**31)))
    picture = Image.fromarray((pixels * 255).round().astype(np.uint8))
    picture.resize((SIZE * scale,) * 2, Image.Resampling.NEAREST).save(path)
