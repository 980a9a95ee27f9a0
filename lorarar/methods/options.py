"""What merge methods may ask for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lorarar.hypernet import Hypernet

Precision = Literal["no", "bf16", "fp16"]
PRECISIONS: dict[Precision, str] = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class MergeOptions:
    """Options of every method; each reads those that it knows.

    density: share of weights that TIES and DARE keep. model: the base model that ZipLoRA asks, in
    this precision: "no" (float32), "bf16" or "fp16".
    """

    hypernet: Hypernet | None = None
    content_scale: float = 1.0
    style_scale: float = 1.0
    density: float = 0.5
    seed: int = 0
    model: str | Path | None = None
    precision: Precision = "no"
