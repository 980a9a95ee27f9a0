"""What merge methods are given, and may ask for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from lorarar.hypernet import Hypernet
from lorarar.lora import Lora

Precision = Literal["no", "bf16", "fp16"]
PRECISIONS: dict[Precision, str] = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}


class MergeKeywords(TypedDict, total=False):
    """Keywords of `lorarar.merge` that become `MergeOptions`, beside the hypernetwork."""

    content_scale: float
    style_scale: float
    density: float
    mu: float
    discrepancy: float
    seed: int
    model: str | Path | None
    precision: Precision
    refine: int
    content_prompt: str | None
    style_prompt: str | None


@dataclass(frozen=True, kw_only=True)
class MergeOptions:
    """Options of every method; each reads those that it knows.

    density: share of weights that TIES and DARE keep. mu: how far NP-LoRA keeps the content out of
    what the style reads, from 0 to infinity. discrepancy: of both LoRAs' pictures, for EST-LoRA;
    its authors take 1 - the cosine of DINO's features. model: the base model that ZipLoRA and
    `lorarar.training.refine` ask, in this precision: "no" (float32), "bf16" or "fp16". refine: its
    steps; content_prompt, style_prompt: what calls each LoRA there, if their files do not say.
    """

    hypernet: Hypernet | None = None
    content_scale: float = 1.0
    style_scale: float = 1.0
    density: float = 0.5
    mu: float = 0.5
    discrepancy: float = 0.5
    seed: int = 0
    model: str | Path | None = None
    precision: Precision = "no"
    refine: int = 0
    content_prompt: str | None = None
    style_prompt: str | None = None


Method = Callable[[Lora, Lora, MergeOptions], Lora]  # content, style, options -> merged
