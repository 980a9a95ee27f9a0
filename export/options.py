"""The exporters' command line: a whole pipeline with --model, else the hypernetwork alone."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from lorarar import embedded
from lorarar.artefacts.formats import FORMATS, Dtype, FormatName
from lorarar.errors import LorararError
from lorarar.export.report import ExportReport, console, show
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
MergerDtype = Annotated[Dtype, typer.Option(help="of the hypernetwork")]
Force = Annotated[bool, typer.Option("--force", help="replace what exists")]
OF_A_MODEL = ("quantize", "psnr", "delegate", "side")
OF_A_HYPERNET_ALONE = ("dtype",)


def export(
    context: typer.Context,
    name: FormatName,
    *,
    model: str | None,
    random_weights: str | None,
    quantize: str,
    hypernet: Path | None,
    output: Path | None,
    dtype: Dtype,
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
        export_folder(
            name,
            model,
            output or Path("exported"),
            random_weights=random_weights,
            quantize=quantize,
            hypernet=hypernet,
            force=force,
            **options,
        )
        return
    _refuse(context, OF_A_MODEL, "a model; add --model or leave it out")
    if hypernet is None:
        console.print("no --hypernet given: exporting an untrained stand-in (seed 0)")
    loaded = load_hypernet(hypernet) if hypernet else Hypernet.random()
    show(export_hypernet(name, loaded, output or Path(FORMATS[name].merger), dtype, force=force))


def _refuse(context: typer.Context, options: tuple[str, ...], meant_for: str) -> None:
    for name in options:
        source = context.get_parameter_source(name)
        if source and source.name == "COMMANDLINE":
            raise LorararError(f"--{name} {context.params[name]}: is for {meant_for}")


def export_folder(
    name: FormatName,
    model: str | None,
    output: Path,
    *,
    random_weights: str | None = None,
    quantize: str | None = None,
    hypernet: Path | None = None,
    force: bool = False,
    **options: Any,
) -> None:
    """Export a pipeline, with the hypernetwork given or the embedded model's own.

    quantize: the format's usual one by default.
    """
    from lorarar.export.folder import show_pipeline
    from lorarar.export.source import open_model

    usual = FORMATS[name]
    if hypernet is None and model == embedded.NAME:
        hypernet = embedded.HYPERNET
    loaded = load_hypernet(hypernet) if hypernet else None

    def write_merger(folder: Path) -> None:
        if loaded:
            export_hypernet(name, loaded, folder / usual.merger, usual.merger_dtype)

    with open_model(model, random_weights) as opened:
        export_pipeline = import_module(f"lorarar.export.{name}.pipeline").export_pipeline
        report = export_pipeline(
            opened,
            output,
            quantize or usual.quantize,
            force=force,
            write_merger=write_merger if loaded else None,
            **options,
        )
    show_pipeline(report)


def export_hypernet(
    name: FormatName, hypernet: Hypernet, path: Path, dtype: Dtype, *, force: bool = False
) -> ExportReport:
    """Write an exported hypernetwork; see the `export_hypernet` of a format's module."""
    module = import_module(f"lorarar.export.{name}.hypernet")
    report: ExportReport = module.export_hypernet(hypernet, path, dtype, force)
    return report
