"""Draw with a content and a style LoRA, merged by any method."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from lorarar.diffusion.pipeline import draw, fastest_device, load_onto, put_lora
from lorarar.diffusion.scheduled import scheduled
from lorarar.embedded import HYPERNET, find_lora
from lorarar.errors import LorararError
from lorarar.hypernet import Hypernet, load_hypernet
from lorarar.lora import Lora, load_lora
from lorarar.merge import materialise
from lorarar.methods import DrawingMethod, find_method
from lorarar.methods.options import MergeKeywords, MergeOptions, Method, Precision
from lorarar.methods.scheduled import SCHEDULED

UNIT = 8  # of a picture's sides, in pixels


@dataclass(frozen=True)
class Ready:
    """A pipeline that draws with a pair. arguments: of its calls; merge_seconds: to the factors,
    without what it takes to put them in."""

    merge_seconds: float
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Drawn:
    """A picture (3, height, width) in [0, 1]. merge_seconds: how long its merge took; sampler: the
    class of the model's scheduler."""

    picture: Tensor
    merge_seconds: float
    sampler: str


def generate(
    content: str | Path,
    style: str | Path,
    prompt: str,
    *,
    model: str | Path | None = None,
    hypernet: Path | None = None,
    method: DrawingMethod | Method = "lorarar",
    seed: int = 0,
    steps: int = 20,
    guidance: float = 5.0,
    negative_prompt: str | None = None,
    width: int | None = None,
    height: int | None = None,
    content_scale: float = 1.0,
    style_scale: float = 1.0,
    precision: Precision = "no",
) -> Drawn:
    """Merge two LoRAs (files, or names of embedded ones) and draw `prompt`; on a GPU if there is.

    model, hypernet: the embedded ones by default; another model needs its own hypernetwork.
    method: of `lorarar.methods.scheduled`, or as of `lorarar.merge`. width, height: in pixels, the
    model's own by default. precision: of the model, "no" (float32), "bf16" or "fp16".

    Raises LorararError for bad input.
    """
    sides = {"width": width, "height": height}
    for name, side in sides.items():
        if side is not None and (side < UNIT or side % UNIT):
            raise LorararError(f"{name} {side}: must be a multiple of {UNIT} pixels")
    loras = load_lora(find_lora(content)), load_lora(find_lora(style))
    pipeline = load_onto(fastest_device(), model, precision)
    if hypernet is None and model is None:
        hypernet = HYPERNET
    with merged_into(
        pipeline,
        *loras,
        method,
        hypernet=load_hypernet(hypernet) if hypernet else None,
        model=model,
        precision=precision,
        content_scale=content_scale,
        style_scale=style_scale,
    ) as ready:
        pictures = draw(
            pipeline,
            [prompt],
            [seed],
            steps,
            guidance=guidance,
            negative_prompt=negative_prompt,
            **sides,
            **ready.arguments,
        )
    return Drawn(pictures[0], ready.merge_seconds, type(pipeline.scheduler).__name__)


@contextmanager
def merged_into(
    pipeline: StableDiffusionXLPipeline,
    content: Lora,
    style: Lora,
    method: str | Method,
    *,
    hypernet: Hypernet | None = None,
    **options: Unpack[MergeKeywords],
) -> Iterator[Ready]:
    """Within this context the pipeline draws with both LoRAs; see `lorarar.merge`.

    method: one of `lorarar.methods.scheduled` besides.

    Raises LorararError for an unknown method or LoRAs that do not fit.
    """
    started = time.perf_counter()
    given = MergeOptions(hypernet=hypernet, **options)
    if method in SCHEDULED:
        schedule = SCHEDULED[method](content, style, given)
        seconds = time.perf_counter() - started
        scales = given.content_scale, given.style_scale
        with scheduled(pipeline, content, style, schedule, *scales) as arguments:
            yield Ready(seconds, arguments)
        return
    merged = materialise(find_method(method)(content, style, given))
    ready = Ready(time.perf_counter() - started, {})
    put_lora(pipeline, merged)
    try:
        yield ready
    finally:
        put_lora(pipeline, None)
