"""Folders of training images, with a prompt for all or a caption for each."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lorarar.artefacts.training import image_cache
from lorarar.errors import LorararError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
CAPTIONS = "metadata.jsonl"


@dataclass(frozen=True)
class Example:
    """An image file and what it shows."""

    image: Path
    prompt: str


def load_examples(folder: Path, prompt: str) -> list[Example]:
    """List a folder's images; those named in `metadata.jsonl` have captions of their own.

    A line of `metadata.jsonl` is {"file_name": ..., "text": ...} (Hugging Face's image folders).

    Raises LorararError for a missing or empty folder or a damaged `metadata.jsonl`.
    """
    if not folder.is_dir():
        drawn = folder.is_relative_to(image_cache())
        remedy = "run: python -m lorarar.mini.pictures" if drawn else "name a folder of images"
        raise LorararError(f"{folder}: no such folder; {remedy}")
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not images:
        raise LorararError(f"{folder}: holds no images ({', '.join(sorted(SUFFIXES))}); add some")
    captions = _captions(folder / CAPTIONS)
    for name in captions:
        if not (folder / name).is_file():
            raise LorararError(f"{folder / CAPTIONS}: names '{name}', which does not exist")
    return [Example(path, captions.get(path.name, prompt)) for path in images]


def _captions(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        return {str(line["file_name"]): str(line["text"]) for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise LorararError(
            f"{path}: damaged ({error}); each line is {{'file_name': ..., 'text': ...}}"
        ) from error


def read_image(path: Path, side: int) -> Tensor:
    """Return the image's middle square, (3, side, side) float32 in [-1, 1].

    Raises LorararError if it cannot be read.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise LorararError(
            f"{path}: cannot be read as an image ({error}); remove or replace it"
        ) from error
    fitted = ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(fitted).copy()).permute(2, 0, 1).float() / 127.5 - 1


def write_examples(folder: Path, pictures: list[tuple[np.ndarray, str]]) -> None:
    """Write drawings, (side, side, 3) in [0, 1], as PNGs with their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for index, (pixels, text) in enumerate(pictures):
        name = f"{index:03}.png"
        Image.fromarray((pixels * 255).round().astype(np.uint8)).save(folder / name)
        lines.append(json.dumps({"file_name": name, "text": text}))
    (folder / CAPTIONS).write_text("".join(line + "\n" for line in lines))
