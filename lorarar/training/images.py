"""Folders of training images, with a prompt for all or a caption for each."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from lorarar.artefacts.training import image_cache
from lorarar.errors import LorararError
from lorarar.image_files import PAPER, UNREADABLE, open_image, read_rgb

SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".avif"}
HEIF = {".heic", ".heif"}  # by Pillow's plug-in pillow-heif, where it is installed
CAPTIONS = "metadata.jsonl"


@dataclass(frozen=True)
class Example:
    """An image file and what it shows."""

    image: Path
    prompt: str


def load_examples(folder: Path, prompt: str) -> list[Example]:
    """List the images of a folder and of those in it, each with its caption.

    A caption stands in `metadata.jsonl`, whose lines are {"file_name": ..., "text": ...} (Hugging
    Face's image folders), or in a text file beside the image (`dog.txt` of `dog.png`, as kohya's
    trainers have it); `prompt` is for images that have neither.

    Raises LorararError for a missing or empty folder, or for captions that are damaged or of
    images that are not there.
    """
    listed = _images(folder)
    captions = _captions(folder, listed)
    return [Example(path, captions.get(path, prompt)) for path in listed]


def describe_images(folder: Path) -> str:
    """Say in one line what of a folder is trained on, by whose captions, and what is not.

    Raises LorararError as `load_examples` does.
    """
    listed = _images(folder)
    captions = _captions(folder, listed)
    said = [f"{len(listed)} images, {len(captions)} with captions of their own"]
    transparent = sum(map(_is_transparent, listed))
    if transparent:
        said.append(f"{transparent} transparent ones on {PAPER}")
    ours = {".txt", ".jsonl", *SUFFIXES, *_heif()}
    others = (path.suffix.lower() for path in _files(folder))
    skipped = Counter(suffix or "no suffix" for suffix in others if suffix not in ours)
    if skipped:
        said.append("left out: " + ", ".join(f"{n} x {name}" for name, n in skipped.items()))
    if HEIF & skipped.keys():
        said.append("to read HEIC: pip install pillow-heif")
    return f"{folder}: {'; '.join(said)}"


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        drawn = folder.is_relative_to(image_cache())
        remedy = "run: python -m lorarar.mini.pictures" if drawn else "name a folder of images"
        raise LorararError(f"{folder}: no such folder; {remedy}")
    read = SUFFIXES | _heif()
    images = sorted(path for path in _files(folder) if path.suffix.lower() in read)
    if not images:
        raise LorararError(f"{folder}: holds no images ({', '.join(sorted(read))}); add some")
    return images


def _files(folder: Path) -> Iterator[Path]:
    """Files of a folder and of those in it, but for hidden ones and what trainings keep."""
    for path in folder.rglob("*"):
        places = path.relative_to(folder).parts
        if path.is_file() and not any(p.startswith(".") or p.endswith(".training") for p in places):
            yield path


def _heif() -> set[str]:
    """The suffixes that pillow-heif reads, once it is there and has told Pillow."""
    if find_spec("pillow_heif") is None:
        return set()
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return HEIF


def _captions(folder: Path, images: list[Path]) -> dict[Path, str]:
    """By image; `metadata.jsonl` goes before text files."""
    beside = {image: image.with_suffix(".txt") for image in images}
    captions = {image: _text(path).strip() for image, path in beside.items() if path.is_file()}
    known = {image.resolve(): image for image in images}
    for name, text in _metadata(folder / CAPTIONS).items():
        image = known.get((folder / name).resolve())
        if image is None:
            raise LorararError(
                f"{folder / CAPTIONS}: names '{name}', which is no image of this folder; "
                "remove the line or add the image"
            )
        captions[image] = text
    return captions


def _metadata(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    named = {}
    # Not splitlines: captions may hold what it takes for the end of a line, as U+2028.
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            read = json.loads(line)
            name, text = read["file_name"], read["text"]
            if not isinstance(name, str) or not isinstance(text, str):
                raise TypeError("both are texts")
        except (ValueError, KeyError, TypeError) as error:
            raise LorararError(
                f"{path}: line {number} is damaged ({error}); "
                "each is {'file_name': ..., 'text': ...}"
            ) from error
        named[name] = text
    return named


def _text(path: Path) -> str:
    """Read UTF-8 with or without a byte order mark, whatever the locale."""
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LorararError(f"{path}: is not UTF-8 ({error}); save it as UTF-8") from error


def _is_transparent(path: Path) -> bool:
    try:
        with open_image(path) as image:
            return image.has_transparency_data
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> LorararError:
    return LorararError(f"{path}: cannot be read as an image ({error}); remove or replace it")


def read_image(path: Path, side: int) -> Tensor:
    """Return the middle square of `read_rgb`'s image, (3, side, side) float32 in [-1, 1].

    Raises LorararError if it cannot be read.
    """
    try:
        upright = read_rgb(path)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
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
