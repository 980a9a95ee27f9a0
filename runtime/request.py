"""What can be asked of a drawing with an exported pipeline, by the command line and by the page."""

import secrets
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lorarar.artefacts.picture import LoraFacts, PictureFacts
from lorarar.artefacts.typed import typed
from lorarar.errors import LorararError
from lorarar.files import sha256
from lorarar.formats.source import weights_file
from lorarar.methods import DeviceMethod
from lorarar.runtime.cache import FileVersion, file_version
from lorarar.runtime.pipeline import Pipeline
from lorarar.runtime.samplers import Sampler, settled_sampler

RANGES = {  # of a request's numbers; also the page's
    "content_scale": (0, 2),
    "style_scale": (0, 2),
    "steps": (1, 1000),
    "guidance": (0, 50),
    "seed": (-1, 2**32 - 1),
    "width": (0, 4096),
    "height": (0, 4096),
}
SEEDS = 2**31


@dataclass(frozen=True, kw_only=True)
class DrawRequest:
    """What to draw with a content and a style LoRA; see `Pipeline.set_pair` and `Pipeline.steps`.

    sampler: None for the model's own; seed: -1 for any; width, height: in pixels, 0 for the model's
    own.
    """

    prompt: str
    negative_prompt: str | None = None
    method: DeviceMethod = "lorarar"
    content_scale: float = 1.0
    style_scale: float = 1.0
    steps: int = 20
    guidance: float = 5.0
    sampler: Sampler | None = None
    seed: int = 0
    width: int = 0
    height: int = 0

    def settled(self, pipeline: Pipeline) -> "DrawRequest":
        """Return the same with seed, sampler and size chosen, once its numbers are checked.

        Raises LorararError if one is out of its range, or if the model has no sampler known here.
        """
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise LorararError(f"{name} {getattr(self, name)}: must be from {least} to {most}")
        side = pipeline.manifest.side * pipeline.manifest.pixels
        return replace(
            self,
            sampler=settled_sampler(self.sampler, pipeline.schedule),
            seed=any_seed() if self.seed == -1 else self.seed,
            width=self.width or side,
            height=self.height or side,
        )

    def merge(self, pipeline: Pipeline, content: Path, style: Path) -> None:
        """Make a pipeline draw with a pair as asked; raises LorararError as `set_pair` does."""
        scales = self.content_scale, self.style_scale
        pipeline.set_pair(content, style, *scales, method=self.method)

    def draw(self, pipeline: Pipeline) -> Iterator[np.ndarray]:
        """Yield the latents after each step; raises LorararError as `Pipeline.steps` does."""
        return pipeline.steps(
            self.prompt,
            self.negative_prompt,
            steps=self.steps,
            guidance=self.guidance,
            sampler=self.sampler,
            seed=self.seed,
            size=(self.width, self.height),
        )

    def picture(self, pipeline: Pipeline) -> Image.Image:
        """Draw to the end; raises LorararError as `Pipeline.generate` does."""
        (latents,) = deque(self.draw(pipeline), maxlen=1)
        return pipeline.decode(latents)

    def notes(self, pipeline: Pipeline) -> list[str]:
        """Say what of the prompts a pipeline has no room for, a line each."""
        texts = {"prompt": self.prompt, "negative prompt": self.negative_prompt or ""}
        return [
            f"the {what} is too long for this model: left out '{words}'"
            for what, text in texts.items()
            if (words := pipeline.cut(text))
        ]

    def facts(self, pipeline: Pipeline, content: Path, style: Path) -> PictureFacts:
        """Say what draws, for the picture's file."""
        made = pipeline.manifest
        return PictureFacts(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            content=lora_facts(content, self.content_scale),
            style=lora_facts(style, self.style_scale),
            method=self.method,
            seed=self.seed,
            steps=self.steps,
            guidance=self.guidance,
            sampler=settled_sampler(self.sampler, pipeline.schedule),
            width=self.width,
            height=self.height,
            model=f"{made.base}, {made.quantize}",
            model_identity=made.identity,
        )


def any_seed() -> int:
    """Choose a seed, as -1 asks for."""
    return secrets.randbelow(SEEDS)


def read_request(fields: Mapping[str, Any]) -> DrawRequest:
    """Return what JSON asks for.

    Raises LorararError unless each field is known and of its type.
    """
    try:
        return typed(DrawRequest, fields)
    except TypeError as error:
        raise LorararError(f"this is nothing to draw ({error})") from error


def lora_facts(path: Path, scale: float) -> LoraFacts:
    """Say which file a LoRA is.

    Raises LorararError if it cannot be read.
    """
    return LoraFacts(path.stem, _hash(file_version(path)), scale)


@lru_cache(maxsize=1024)
def _hash(file: FileVersion) -> str:
    return sha256(weights_file(file.path))
