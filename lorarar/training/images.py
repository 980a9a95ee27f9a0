"""Folders of training images, with a prompt for all or a caption for each."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
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
from lorarar.text_files import damaged_line, read_json_lines, read_text

SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".avif"}
HEIF = {".heic", ".heif"}  # by Pillow's plug-in pillow-heif, where it is installed
CAPTIONS = "metadata.jsonl"
LINE = '{"file_name": "a.png", "text": "a dog"}'


@dataclass(frozen=True)
class Example:
    """An image file and what it shows."""

    image: Path
    prompt: str


@dataclass(frozen=True)
class ImageFolder:
    """Images below a folder, the captions that some have, and how many other files by suffix."""

    folder: Path
    images: list[Path]
    captions: dict[Path, str]
    skipped: Counter[str]

    def examples(self, prompt: str) -> list[Example]:
        """Return the images, each with its caption, or `prompt`."""
        return [Example(image, self.captions.get(image, prompt)) for image in self.images]

    def describe(self) -> str:
        """Say in one line what is trained on, by whose captions, and what is not.

        Raises LorararError if an image cannot be read.
        """
        said = [f"{len(self.images)} images, {len(self.captions)} with captions of their own"]
        transparent = sum(map(_is_transparent, self.images))
        if transparent:
            said.append(f"{transparent} transparent ones on {PAPER}")
        if self.skipped:
            left = ", ".join(f"{count} x {suffix}" for suffix, count in self.skipped.items())
            said.append(f"left out: {left}")
        if HEIF & self.skipped.keys():
            said.append("to read HEIC: pip install pillow-heif")
        return f"{self.folder}: {'; '.join(said)}"


def find_images(folder: Path) -> ImageFolder:
    """List the images of a folder and of those in it, and their captions.

    A caption stands in `metadata.jsonl`, whose lines are {"file_name": ..., "text": ...} (Hugging
    Face's image folders), or in a text file beside the image (`dog.txt` of `dog.png`, as kohya's
    trainers have it).

    Raises LorararError for a missing or empty folder, or for captions that are damaged or of
    images that are not there.
    """
    if not folder.is_dir():
        drawn = folder.is_relative_to(image_cache())
        remedy = "run: python -m lorarar.mini.pictures" if drawn else "name a folder of images"
        raise LorararError(f"{folder}: no such folder; {remedy}")
    read = SUFFIXES | _heif()
    files = sorted(_files(folder))
    images = [path for path in files if path.suffix.lower() in read]
    if not images:
        raise LorararError(f"{folder}: holds no images ({', '.join(sorted(read))}); add some")
    used = {*images, *map(_caption_beside, images), folder / CAPTIONS}
    skipped = Counter(path.suffix.lower() or "no suffix" for path in files if path not in used)
    return ImageFolder(folder, images, _captions(folder, images), skipped)


def together(folder: Path, found: Sequence[ImageFolder]) -> ImageFolder:
    """Take several folders of images for one, to be described as `folder`."""
    return ImageFolder(
        folder,
        [image for each in found for image in each.images],
        {image: caption for each in found for image, caption in each.captions.items()},
        sum((each.skipped for each in found), Counter()),
    )


def load_examples(folder: Path, prompt: str) -> list[Example]:
    """List the images of `find_images`, each with its caption; `prompt` is for those without.

    Raises LorararError as `find_images` does.
    """
    return find_images(folder).examples(prompt)


def _files(folder: Path) -> Iterator[Path]:
    """Files of a folder and of those in it, but for hidden ones and what trainings keep."""
    for path in folder.rglob("*"):
        places = path.relative_to(folder).parts
        hidden = any(p.startswith(".") or p.endswith(".training") for p in places)
        if not hidden and (path.is_file() or path.is_symlink()):  # a broken link is told of
            yield path


def _heif() -> set[str]:
    """The suffixes that pillow-heif reads, once it is there and has told Pillow."""
    if find_spec("pillow_heif") is None:
        return set()
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return HEIF


def _caption_beside(image: Path) -> Path:
    return image.with_suffix(".txt")


def _captions(folder: Path, images: list[Path]) -> dict[Path, str]:
    """By image; `metadata.jsonl` goes before text files."""
    beside = {image: _caption_beside(image) for image in images}
    captions = {image: read_text(path).strip() for image, path in beside.items() if path.is_file()}
    known = {image.resolve(): image for image in images}
    listed = folder / CAPTIONS
    for number, line in read_json_lines(listed, LINE) if listed.exists() else ():
        try:
            name, text = line["file_name"], line["text"]
            if not isinstance(name, str) or not isinstance(text, str):
                raise TypeError("both are texts")
        except (KeyError, TypeError) as error:
            raise damaged_line(listed, number, error, LINE) from error
        image = known.get((folder / name).resolve())
        if image is None:
            raise LorararError(
                f"{listed}: names '{name}', which is no image of this folder; "
                "remove the line or add the image"
            )
        captions[image] = text
    return captions


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
