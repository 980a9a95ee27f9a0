"""Options that several commands share, and how commands speak."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from lorarar.command import console
from lorarar.errors import LorararError, printable
from lorarar.lora import Lora, load_lora
from lorarar.methods import MethodName
from lorarar.methods.options import MergeKeywords, MergeOptions, Method
from lorarar.methods.scheduled import ScheduledName

Output = Annotated[Path, typer.Option("--output", "-o")]
Model = Annotated[
    str | None,
    typer.Option(help="diffusers folder, single file or hub id; the embedded one by default"),
]
HypernetPath = Annotated[Path, typer.Option(help="LoRA.rar checkpoint (.safetensors or .pth)")]
Mu = Annotated[
    float, typer.Option(min=0, help="np: 0 is the direct sum; inf keeps all the style reads")
]
Refine = Annotated[
    int, typer.Option(min=0, help="lorarar: steps more for this pair, on pictures drawn for it")
]
ContentPrompt = Annotated[
    str | None, typer.Option(help="--refine: what calls the content LoRA, as 'a sks dog'")
]
StylePrompt = Annotated[
    str | None, typer.Option(help="--refine: what calls the style LoRA, as 'in watercolor style'")
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


def refine_options(
    pair: tuple[Path, Path],
    method: str,
    steps: int,
    content_prompt: str | None,
    style_prompt: str | None,
) -> MergeKeywords:
    """Options of `lorarar.training.refine`: the prompts are looked for where none are given.

    Raises LorararError for another method than LoRA.rar, or if a LoRA's prompt is not known.
    """
    if method != "lorarar":
        raise LorararError(
            f"--refine goes on from LoRA.rar's coefficients; drop it, or --method {method}"
        )
    from lorarar.training.refine import prompt_of

    content, style = map(load_lora, pair)
    return {
        "refine": steps,
        "content_prompt": content_prompt or prompt_of(content, "content"),
        "style_prompt": style_prompt or prompt_of(style, "style"),
    }


def refined_with(given: MergeKeywords) -> Method:
    """The method of `lorarar.training.refine` with these options."""
    from lorarar.training.refine import refined

    def refined_so(content: Lora, style: Lora, options: MergeOptions) -> Lora:
        return refined(content, style, replace(options, **given))

    return refined_so
