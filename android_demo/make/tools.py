"""The programs that the build and its tests call, and what brings them."""

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from lorarar.errors import LorararError

PACKAGES = {  # of Debian, where they have other names than the programs
    "javac": "default-jdk-headless",
    "java": "default-jdk-headless",
    "keytool": "default-jdk-headless",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    "readelf": "binutils",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "qemu-aarch64": "qemu-user",
}


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


def require(program: str) -> None:
    """Raise LorararError naming Debian's package if a program is not installed."""
    if shutil.which(program) is None:
        package = PACKAGES.get(program, program)
        raise LorararError(f"{program}: not installed; run: apt-get install {package}")


def compile_java(sources: Iterable[Path], folder: Path, *class_path: Path | str) -> None:
    """Compile for Java 8, which is what dx reads, into `folder`.

    Raises LorararError if the compiler is missing or refuses a source.
    """
    folder.mkdir(parents=True, exist_ok=True)
    compiler = ["javac", "-Xlint:-options", "--release", "8", "-encoding", "UTF-8"]
    places = ":".join(map(str, class_path))
    run([*compiler, "-d", folder, "-cp", places, *sorted(sources)])
