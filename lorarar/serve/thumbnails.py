"""Thumbnails of LoRAs: what a file brings, or what it draws alone, once, when nobody else draws."""

import asyncio
import json
import logging
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from PIL import Image

from lorarar.errors import LorararError
from lorarar.files import read_safetensors, user_cache, write_atomically
from lorarar.image_files import UNREADABLE
from lorarar.runtime.cache import FileVersion, file_version
from lorarar.runtime.limits import draws_any_size
from lorarar.runtime.request import lora_facts
from lorarar.serve.drawing import Drawer

SIDE = 128  # pixels
LARGEST_COVER = 4 << 20  # characters of base64
MOST_PIXELS = 2048**2
KINDS = ("PNG", "JPEG", "WEBP")
STEPS, SEED = 8, 0
LARGEST_DRAWN = 512  # pixels of a side, where the folder draws any size
IDLE = 5.0  # seconds without a picture being drawn, before a thumbnail is
PROMPT = "a picture"  # of a LoRA that nobody described


@dataclass
class Thumbnails:
    """WebP images of `SIDE` pixels, kept in the user's cache by the LoRA's and the model's hash.

    made: those known, b"" for LoRAs that cannot draw; waiting: prompts of those to be drawn.
    """

    drawer: Drawer
    made: dict[FileVersion, bytes] = field(default_factory=dict)
    waiting: dict[FileVersion, str] = field(default_factory=dict)

    def get(self, file: Path) -> bytes | None:
        """Return a LoRA's thumbnail, b"" if there will be none, None if it is yet to be drawn.

        Raises LorararError if the file cannot be read.
        """
        version = file_version(file)
        if version not in self.made:
            found = cover_of(file) or self._kept(version)
            if found is None:
                return None
            self.made[version] = found
        return self.made[version]

    def ask_for(self, file: Path, prompt: str) -> None:
        """Have a thumbnail drawn. prompt: what the LoRA draws alone.

        Raises LorararError if the file cannot be read.
        """
        self.waiting[file_version(file)] = prompt

    async def draw_when_idle(self) -> None:
        """Draw those that are waited for, one after another, for as long as the server runs."""
        while True:
            await asyncio.sleep(IDLE)
            while self.waiting and not self.drawer.ahead:
                version, prompt = next(iter(self.waiting.items()))
                drawn = await asyncio.wrap_future(
                    self.drawer.thread.submit(self._draw, version, prompt)
                )
                if drawn is None:  # somebody wants a picture
                    break
                self.made[version] = drawn
                del self.waiting[version]

    def _draw(self, version: FileVersion, prompt: str) -> bytes | None:
        pipeline = self.drawer.pipeline
        made = pipeline.manifest.side * pipeline.manifest.pixels
        side = min(made, LARGEST_DRAWN) if draws_any_size(pipeline.manifest) else made
        try:
            kept = self._file(version)
            pipeline.load_lora(version.path)
            steps = pipeline.steps(prompt or PROMPT, steps=STEPS, seed=SEED, size=(side, side))
            for done, latents in enumerate(steps, 1):
                if self.drawer.ahead or self.drawer.stopping.is_set():
                    return None
                if done == STEPS:
                    small = _small(pipeline.decode(latents))
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(kept, lambda file: file.write(small), force=True)
            return small
        except LorararError:
            return b""  # whoever draws with it is told why
        except Exception:
            logging.exception("a thumbnail could not be drawn")
            return b""

    def _kept(self, version: FileVersion) -> bytes | None:
        with suppress(OSError):
            return self._file(version).read_bytes()
        return None

    def _file(self, version: FileVersion) -> Path:
        made = self.drawer.pipeline.manifest
        lora = lora_facts(version.path, 1.0).sha256
        return user_cache("thumbnails") / f"{lora}-{made.identity[:16]}-{made.quantize}.webp"


def cover_of(file: Path) -> bytes | None:
    """Return the picture in a LoRA's metadata, made small: the Stability standard's thumbnail or
    the web UIs' cover; None if it has none that is a picture of moderate size.

    Raises LorararError if the file cannot be read.
    """
    _, metadata = read_safetensors(file)
    for text in _covers(metadata):
        with suppress(Base64Error, *UNREADABLE):
            image = Image.open(BytesIO(b64decode(text, validate=True)), formats=KINDS)
            if image.width * image.height <= MOST_PIXELS:
                return _small(image)
    return None


def _covers(metadata: Mapping[str, str]) -> Iterator[str]:
    """Base64 texts that may be pictures."""
    head, _, data = metadata.get("modelspec.thumbnail", "").partition(",")
    texts = [data] if head.startswith("data:image/") and head.endswith(";base64") else []
    with suppress(ValueError, RecursionError):
        listed = json.loads(metadata.get("ssmd_cover_images", "[]"))
        texts += listed if isinstance(listed, list) else []
    for text in texts:
        if isinstance(text, str) and 0 < len(text) <= LARGEST_COVER:
            yield text


def _small(image: Image.Image) -> bytes:
    small, file = image.convert("RGB"), BytesIO()
    small.thumbnail((SIDE, SIDE))
    small.save(file, "WEBP", quality=80)
    return file.getvalue()
