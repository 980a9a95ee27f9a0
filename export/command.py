"""The exporters' command line: a whole pipeline with --model, else the hypernetwork alone."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from lorarar import embedded
from lorarar.errors import LorararError
from lorarar.export.artefact import FLOORS, ExportReport, console, show
from lorarar.hypernet import Hypernet, load_hypernet

ModelName = Annotated[
    str | None, typer.Option("--model", help="diffusers folder or hub id; 'mini': the embedded one")
]
RandomWeights = Annotated[
    str | None, typer.Option(help="a base's true UNet with seeded weights, in place of --model")
]
Quantize = Annotated[str, typer.Option(help="with a model: its UNet's weights")]
HypernetPath = Annotated[
    Path | None,
    typer.Option("--hypernet", help="checkpoint; an untrained stand-in if exported alone"),
]
Output = Annotated[Path | None, typer.Option("--output", "-o")]
Side = Annotated[int, typer.Option(help="of the latents; 0: the model's own")]
Dtype = Annotated[str, typer.Option(help=f"of the hypernetwork; one of {', '.join(FLOORS)}")]
Force = Annotated[bool, typer.Option("--force", help="replace what exists")]
OF_A_MODEL = ("quantize", "psnr", "delegate", "side")
OF_A_HYPERNET_ALONE = ("dtype",)


@dataclass(frozen=True)
class Format:
    """export_hypernet: writes `merger`, in a folder in `merger_dtype`; pipeline: the module whose
    `export_pipeline` writes a folder, imported when asked for."""

    export_hypernet: Callable[[Hypernet, Path, str, bool], ExportReport]
    merger: str
    merger_dtype: str
    pipeline: str


def export(
    context: typer.Context,
    form: Format,
    model: str | None,
    random_weights: str | None,
    quantize: str,
    hypernet: Path | None,
    output: Path | None,
    dtype: str,
    force: bool,
    **options: Any,
) -> None:
    """Export what was asked for, verify it, and print error, size and time.

    Raises LorararError for an option that has no meaning for what is exported.
    """
    if model or random_weights:
        _refuse(
            context, OF_A_HYPERNET_ALONE, "a hypernetwork exported alone; leave it or --model out"
        )
        folder = output or Path("exported")
        export_folder(form, model, random_weights, quantize, hypernet, folder, force, **options)
        return
    _refuse(context, OF_A_MODEL, "a model; add --model or leave it out")
    if hypernet is None:
        console.print("no --hypernet given: exporting an untrained stand-in (seed 0)")
    loaded = load_hypernet(hypernet) if hypernet else Hypernet.random()
    show(form.export_hypernet(loaded, output or Path(form.merger), dtype, force))


def _refuse(context: typer.Context, options: tuple[str, ...], meant_for: str) -> None:
    for name in options:
        source = context.get_parameter_source(name)
        if source and source.name == "COMMANDLINE":
            raise LorararError(f"--{name} {context.params[name]}: is for {meant_for}")


def export_folder(
    form: Format,
    model: str | None,
    random_weights: str | None,
    quantize: str,
    hypernet: Path | None,
    output: Path,
    force: bool,
    **options: Any,
) -> None:
    """Export a pipeline, with the hypernetwork given or the embedded model's own."""
    from lorarar.export.folder import show_pipeline
    from lorarar.export.source import open_model

    if hypernet is None and model == embedded.NAME:
        hypernet = embedded.HYPERNET
    with open_model(model, random_weights) as opened:
        export_pipeline = import_module(form.pipeline).export_pipeline
        merger = partial(_write_merger, form, load_hypernet(hypernet)) if hypernet else None
        show_pipeline(
            export_pipeline(opened, output, quantize, force, write_merger=merger, **options)
        )


def _write_merger(form: Format, hypernet: Hypernet, path: Path) -> ExportReport:
    return form.export_hypernet(hypernet, path, form.merger_dtype, False)
