"""How every command of this project is run: bad input ends in one line."""

import signal
import sys
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from lorarar.errors import LorararError, printable
from lorarar.quiet import silence_libraries

console = Console()
Force = Annotated[bool, typer.Option("--force", help="replace what exists")]
ENDING = [each for each in signal.Signals if each.name in ("SIGTERM", "SIGHUP")]  # Windows: one
LESS_MEMORY = (
    "use --precision bf16, for training also --checkpointing or a smaller --batch or --side; "
    "or set CUDA_VISIBLE_DEVICES= to use no GPU"
)


def run_app(app: typer.Typer) -> None:
    """Run a command; bad input or a full GPU ends in one line on stderr and exit code 1.

    SIGTERM and SIGHUP end it as Ctrl-C does: what is half written is removed. Characters that the
    terminal's encoding lacks are printed as escapes.
    """
    silence_libraries()
    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, _exit)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except LorararError as error:
        _stop(str(error))
    except RuntimeError as error:
        torch = sys.modules.get("torch")  # which commands that need no torch do not import
        if not torch or not isinstance(error, torch.OutOfMemoryError):
            raise
        _stop(f"{str(error).splitlines()[0]}; {LESS_MEMORY}")


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # who asks again need not wait
    sys.exit(128 + number)


def _stop(message: str) -> NoReturn:
    text = printable(f"error: {message}")
    Console(stderr=True).print(text, markup=False, soft_wrap=True)
    sys.exit(1)


def run_script(command: Callable[..., None]) -> None:
    """Run a script's only command.

    Run by path, a script has its own folder first on `sys.path`, where `export/onnx` would hide the
    library of that name; what the command imports no longer looks there.
    """
    here = Path(sys.modules["__main__"].__file__ or "").resolve().parent
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != here]
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    run_app(app)
