"""The exporters' command line: a whole pipeline with --model, else the hypernetwork alone.

What takes seconds to import is imported where it is used: a script that is run by path leaves its
folder only then (`lorarar.command.run_script`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorarar import embedded
from lorarar.artefacts.formats import FORMATS, Dtype, FormatName
from lorarar.command import console
from lorarar.errors import LorararError
from lorarar.export.exporters import export_hypernet, pipeline_exporter
from lorarar.hypernet import Hypernet, load_hypernet

if TYPE_CHECKING:  # their imports take seconds
    from lorarar.export.folder import PipelineReport
    from lorarar.export.parts import OpenedModel

ModelName = Annotated[
    str | None,
    typer.Option("--model", help="diffusers folder, single file or hub id; 'mini': embedded"),
]
RandomWeights = Annotated[
    str | None, typer.Option(help="a base's true UNet with seeded weights, in place of --model")
]
QuantizeOption = Annotated[str, typer.Option(help="with a model: its UNet's weights")]
OptionalHypernet = Annotated[
    Path | None,
    typer.Option("--hypernet", help="checkpoint; an untrained stand-in if exported alone"),
]
OptionalOutput = Annotated[Path | None, typer.Option("--output", "-o")]
LatentSide = Annotated[int, typer.Option(help="of the latents; 0: the model's own")]
MergerDtype = Annotated[Dtype, typer.Option(help="of the hypernetwork")]
FOLDER = Path("exported")  # where a pipeline goes if nothing else is said
OF_A_MODEL = ("quantize", "psnr", "delegate", "side")
OF_A_HYPERNET_ALONE = ("dtype",)


def wants_pipeline(context: typer.Context, model: str | None, random_weights: str | None) -> bool:
    """Whether a pipeline is to be exported, not a hypernetwork alone.

    Raises LorararError for an option that has no meaning for what is exported.
    """
    if model or random_weights:
        remedy = "a hypernetwork exported alone; leave it or --model out"
        _refuse(context, OF_A_HYPERNET_ALONE, remedy)
        return True
    _refuse(context, OF_A_MODEL, "a model; add --model or leave it out")
    return False


def _refuse(context: typer.Context, options: tuple[str, ...], meant_for: str) -> None:
    for name in options:
        source = context.get_parameter_source(name)
        if source and source.name == "COMMANDLINE":
            raise LorararError(f"--{name} {context.params[name]}: is for {meant_for}")


def export_hypernet_alone(
    name: FormatName, given: Path | None, output: Path | None, dtype: Dtype, force: bool
) -> None:
    """Export a hypernetwork, an untrained stand-in if none is given, and print what was done."""
    from lorarar.export.report import show

    if given is None:
        console.print("no --hypernet given: exporting an untrained stand-in (seed 0)")
    hypernet = load_hypernet(given) if given else Hypernet.random()
    path = output or Path(FORMATS[name].merger)
    show(export_hypernet(name, hypernet, path, dtype, force=force))


def export_folder(
    name: FormatName, model: str, path: Path, *, hypernet: Path | None, force: bool
) -> None:
    """Export a pipeline in the format's usual precision, and print what was done."""
    export_opened(
        model,
        None,
        hypernet,
        lambda opened, loaded: pipeline_exporter(name).export_pipeline(
            opened, path, hypernet=loaded, force=force
        ),
    )


def export_opened(
    model: str | None,
    random_weights: str | None,
    hypernet: Path | None,
    export: Callable[["OpenedModel", Hypernet | None], "PipelineReport"],
) -> None:
    """Open what is to be exported, let `export` write it, and print what was done.

    hypernet: goes beside the pipeline; without one, the embedded model has its own.
    """
    from lorarar.export.folder import show_pipeline
    from lorarar.export.source import open_model

    if hypernet is None and model == embedded.NAME:
        hypernet = embedded.HYPERNET
    loaded = load_hypernet(hypernet) if hypernet else None
    with open_model(model, random_weights) as opened:
        report = export(opened, loaded)
    show_pipeline(report)
