"""Options that several commands share, and how commands speak."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from lorarar.command import console
from lorarar.errors import printable
from lorarar.methods import MethodName
from lorarar.methods.options import Method
from lorarar.methods.scheduled import ScheduledName

Output = Annotated[Path, typer.Option("--output", "-o")]
Model = Annotated[
    str | None, typer.Option(help="diffusers folder or hub id; the embedded model by default")
]
HypernetPath = Annotated[Path, typer.Option(help="LoRA.rar checkpoint (.safetensors or .pth)")]
Mu = Annotated[
    float, typer.Option(min=0, help="np: 0 is the direct sum; inf keeps all the style reads")
]
Positive = Annotated[int, typer.Option(min=1)]
MergeChoice = Literal[MethodName, "ziplora"]
DrawingChoice = Literal[MergeChoice, ScheduledName]


def say(line: str, to: Console = console) -> None:
    """Print one line as it is, however long, but for what would steer the terminal."""
    to.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def say_notes(notes: Iterable[str]) -> None:
    """Print on stderr what was left out of a file."""
    for note in notes:
        say(f"note: {note}", Console(stderr=True))


def draw_missing_images(*manifests: Path) -> None:
    """Draw what the small world's manifests among these, or in these folders, name as images."""
    from lorarar.mini.pictures import draw_training_images

    for manifest in manifests:
        file = manifest / "manifest.json" if manifest.is_dir() else manifest
        if file.exists():
            draw_training_images(file)


def ziplora_for(content: Path, style: Path) -> Method:
    """The method ZipLoRA, once the images that it needs are there."""
    from lorarar.training.ziplora import ziplora

    draw_missing_images(content.parent, style.parent)
    return ziplora
