"""The command line's command that makes one page of many measurements."""

from pathlib import Path
from typing import Annotated

import typer

from lorarar.cli.options import Output, say
from lorarar.command import Force

commands = typer.Typer()


@commands.command()
def report(
    measurements: Annotated[
        list[Path], typer.Argument(metavar="JSON...", help="that benchmarks wrote (--json)")
    ],
    output: Output,
    plots: Annotated[Path | None, typer.Option(help="folder for the plots as PNG, too")] = None,
    force: Force = False,
) -> None:
    """Make one page of benchmarks' measurements, that needs nothing else: tables and plots."""
    from lorarar.report.page import write_report

    written = write_report(measurements, output, plots, force)
    say(f"{output}: {written.measurements} measurements, {written.plots} plots")
