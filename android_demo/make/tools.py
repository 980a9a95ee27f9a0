"""The programs that the build and its tests call."""

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from lorarar.errors import LorararError
from lorarar.runtime.native.tools import require


def run(command: Sequence[str | Path]) -> str:
    """Run a program and return what it printed.

    Raises LorararError if it fails, or naming Debian's package if it is not installed.
    """
    name = str(command[0])
    require(name)
    try:
        done = subprocess.run(
            list(map(str, command)), check=True, capture_output=True, text=True, errors="replace"
        )
    except subprocess.CalledProcessError as error:
        raise LorararError(f"{name} failed:\n{error.stdout}{error.stderr}".strip()) from error
    return done.stdout


def compile_java(sources: Iterable[Path], folder: Path, *class_path: Path | str) -> None:
    """Compile for Java 8, which is what dx reads, into `folder`.

    Raises LorararError if the compiler is missing or refuses a source.
    """
    folder.mkdir(parents=True, exist_ok=True)
    compiler = ["javac", "-Xlint:-options", "--release", "8", "-encoding", "UTF-8"]
    places = ":".join(map(str, class_path))
    run([*compiler, "-d", folder, "-cp", places, *sorted(sources)])
