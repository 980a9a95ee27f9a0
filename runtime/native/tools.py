"""The programs that building the runner and the demo app calls, what brings them, and digests."""

import hashlib
import shutil
import subprocess
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from lorarar.errors import LorararError

DEBIAN = ("http://deb.debian.org/debian", "http://archive.debian.org/debian")
PACKAGES = {  # of Debian, where they have other names than the programs
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "java": "default-jdk-headless",
    "javac": "default-jdk-headless",
    "keytool": "default-jdk-headless",
    "ninja": "ninja-build",
    "qemu-aarch64": "qemu-user",
    "readelf": "binutils",
}


def require(program: str) -> None:
    """Raise LorararError naming Debian's package if a program is not installed."""
    if shutil.which(program) is None:
        package = PACKAGES.get(program, program)
        raise LorararError(f"{program}: not installed; run: apt-get install {package}")


def run(command: Sequence[str | Path]) -> str:
    """Run a program and return what it printed.

    Raises LorararError with the last lines it said if it fails, or naming Debian's package if it
    is not installed.
    """
    require(str(command[0]))
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-30:])
        raise LorararError(f"{Path(command[0]).name} failed: {said}")
    return done.stdout


def fetch_from_debian(path: str) -> bytes:
    """Return a file of Debian's pool, or of its archive.

    Raises LorararError with each mirror's reason if it cannot be fetched.
    """
    reasons = []
    for mirror in DEBIAN:
        try:
            with urllib.request.urlopen(f"{mirror}/{path}", timeout=60) as answer:
                content: bytes = answer.read()
                return content
        except OSError as error:
            reasons.append(f"{mirror}: {error}")
    raise LorararError(f"{Path(path).name}: cannot be fetched ({'; '.join(reasons)})")


def check_digest(file: Path, algorithm: str, wanted: str) -> None:
    """Raise LorararError unless a fetched file has the pinned digest, in hexadecimal digits."""
    with file.open("rb") as content:
        found = hashlib.file_digest(content, algorithm).hexdigest()
    if found != wanted:
        raise LorararError(
            f"{file.name}: has {algorithm} {found}, but {wanted} is pinned; not used"
        )
