"""Options that several commands share, and how commands speak."""

from pathlib import Path
from typing import Annotated

import typer

from lorarar.command import Force, console

__all__ = ["Force", "HypernetPath", "Model", "Output", "Positive", "console", "say"]

Output = Annotated[Path, typer.Option("--output", "-o")]
Model = Annotated[
    str | None, typer.Option(help="diffusers folder or hub id; the embedded model by default")
]
HypernetPath = Annotated[Path, typer.Option(help="LoRA.rar checkpoint (.safetensors or .pth)")]
Positive = Annotated[int, typer.Option(min=1)]


def say(line: str) -> None:
    """Print one line as it is, however long."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)
