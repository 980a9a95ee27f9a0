"""The command line's commands for devices: export, adapters, drawing from what was exported."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lorarar.artefacts.formats import FORMAT_NAMES, Engine, FormatName
from lorarar.cli.options import Output, say
from lorarar.command import Force
from lorarar.embedded import LORAS, NAME
from lorarar.errors import LorararError

commands = typer.Typer()

Target = Literal["all", FormatName]


@commands.command("export")
def export_model(
    target: Annotated[Target, typer.Argument(help="formats; all: a folder for each")],
    output: Output,
    model: Annotated[str, typer.Option(help="diffusers folder, single file or hub id")] = NAME,
    hypernet: Annotated[
        Path | None, typer.Option(help="LoRA.rar checkpoint to merge with on the device")
    ] = None,
    force: Force = False,
) -> None:
    """Export a model with LoRA slots and its hypernetwork, in each format's usual precision.

    python export/to_*.py have every option of one format.
    """
    from lorarar.export.options import export_folder

    for name in FORMAT_NAMES:
        if target not in ("all", name):
            continue
        folder = output / name if target == "all" else output
        folder.parent.mkdir(parents=True, exist_ok=True)
        export_folder(name, model, folder, hypernet=hypernet, force=force)


@commands.command("export-adapter")
def export_adapter(
    lora: Path,
    output: Output,
    exported: Annotated[Path, typer.Option("--for", help="the exported ONNX pipeline")],
    force: Force = False,
) -> None:
    """Write a LoRA as ONNX Runtime's adapter file for an exported pipeline."""
    from lorarar.export.onnx.adapter import export_adapter

    size = export_adapter(lora, exported, output, force)
    typer.echo(f"{output}: {size / 1e6:.1f} MB, for {exported}")


@commands.command()
def serve(
    exported: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="an exported pipeline")
    ] = None,
    backend: Engine = "onnxruntime",
    loras: Annotated[
        Path | None, typer.Option(help="folder of LoRAs; the embedded ones for the embedded model")
    ] = None,
    host: Annotated[str, typer.Option(help="address to serve on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any")] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="a name that the page has, as a proxy's; may be given several times"),
    ] = None,
) -> None:
    """Open a local web page that merges two LoRAs and draws with an exported pipeline."""
    if exported is None:
        raise LorararError(
            "no exported pipeline named; run: lorarar export onnx -o exported && "
            "lorarar serve exported"
        )
    from lorarar.runtime.pipeline import Pipeline

    try:
        from lorarar.serve.server import is_loopback, serve
    except ImportError as error:
        raise LorararError(
            f"the page's server is not installed ({error}); run: pip install 'lorarar[serve]'"
        ) from error
    if not is_loopback(host):
        typer.echo(
            f"warning: whoever reaches {host} can draw and upload; 127.0.0.1 is yours alone",
            err=True,
        )
    pipeline = Pipeline.load(exported, backend)
    if loras is None and pipeline.manifest.base == NAME:
        loras = LORAS
    serve(pipeline, loras, host=host, port=port, say=say, allowed=allow_host or ())
