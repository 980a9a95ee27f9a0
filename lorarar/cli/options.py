"""Options that several commands share, and how commands speak."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lorarar.errors import printable

console = Console()

Output = Annotated[Path, typer.Option("--output", "-o")]
Force = Annotated[bool, typer.Option("--force", help="replace what exists")]
Model = Annotated[
    str | None, typer.Option(help="diffusers folder or hub id; the embedded model by default")
]
HypernetPath = Annotated[Path, typer.Option(help="LoRA.rar checkpoint (.safetensors or .pth)")]
Positive = Annotated[int, typer.Option(min=1)]


def say(line: str, to: Console = console) -> None:
    """Print one line as it is, however long, but for what would steer the terminal."""
    to.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def say_notes(notes: Iterable[str]) -> None:
    """Print on stderr what was left out of a file."""
    for note in notes:
        say(f"note: {note}", Console(stderr=True))
