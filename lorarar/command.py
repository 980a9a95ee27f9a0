"""How every command of this project is run: bad input ends in one line."""

import sys
from collections.abc import Callable

import typer
from rich.console import Console

from lorarar.errors import LorararError


def run_app(app: typer.Typer) -> None:
    """Run a command; a LorararError ends in one line on stderr and exit code 1."""
    try:
        app()
    except LorararError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, soft_wrap=True)
        sys.exit(1)


def run_script(command: Callable[..., None]) -> None:
    """Run a script's only command."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    run_app(app)
