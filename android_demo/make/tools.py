"""Java's compiler, as the build and its tests call it."""

from collections.abc import Iterable
from pathlib import Path

from lorarar.runtime.native.tools import run


def compile_java(sources: Iterable[Path], folder: Path, *class_path: Path | str) -> None:
    """Compile for Java 8, which is what dx reads, into `folder`.

    Raises LorararError if the compiler is missing or refuses a source.
    """
    folder.mkdir(parents=True, exist_ok=True)
    compiler = ["javac", "-Xlint:-options", "--release", "8", "-encoding", "UTF-8"]
    places = ":".join(map(str, class_path))
    run([*compiler, "-d", folder, "-cp", places, *sorted(sources)])
