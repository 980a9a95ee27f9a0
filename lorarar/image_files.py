"""Image files as they look: upright, in RGB, whatever their depth, transparency and metadata."""

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

PAPER = "white"  # behind what is transparent
LARGEST_TEXT = 64 << 20  # bytes of a PNG's texts: editors keep whole workflows in them
UNREADABLE = (  # what Pillow raises for files that are damaged, too large or no images
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def open_image(file: Path | BinaryIO) -> Image.Image:
    """Open an image, whose pixels are not read yet. Raises one of `UNREADABLE`."""
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = LARGEST_TEXT
    return Image.open(file)


def read_rgb(path: Path) -> Image.Image:
    """Return an image upright and in RGB.

    What is transparent is on white; of 16 bits a channel the upper eight are read.

    Raises one of `UNREADABLE`.
    """
    with open_image(path) as image:
        return _in_colour(ImageOps.exif_transpose(image))


def _in_colour(image: Image.Image) -> Image.Image:
    """RGB of any mode; Pillow's own conversion cuts 16 bits off at 255."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"it has 32 bits a pixel, mode {image.mode}")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layered = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layered.size, PAPER), layered).convert("RGB")
