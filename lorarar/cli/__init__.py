"""The command line: parse, call the library, print."""

from importlib.metadata import version
from typing import Annotated

import typer

from lorarar.cli import device, drawing, evaluating, merging, report, training
from lorarar.command import run_app

cli = typer.Typer(no_args_is_help=True, add_completion=False)
for module in (merging, drawing, training, device, evaluating, report):
    cli.add_typer(module.commands)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"lorarar {version('lorarar')}")
        raise typer.Exit


@cli.callback()
def main(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="and end")
    ] = False,
) -> None:
    """Merge a content and a style LoRA, draw with both, train, export."""


def app() -> None:
    """Run a command of `lorarar`."""
    run_app(cli)
