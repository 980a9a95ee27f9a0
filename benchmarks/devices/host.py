"""This machine."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorarar.benchmarks import machine
from lorarar.benchmarks.devices.bundle import COMMANDS
from lorarar.benchmarks.devices.device import OUTPUT, Choice, Facts, Place, Run, read_answer
from lorarar.runtime.native.build import Target

TARGET: Target = "host"
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@contextmanager
def put(bundle: Path, choice: Choice) -> Iterator[Place]:
    """Leave it where it is."""
    yield Place(str(bundle))


def run(place: Place, arguments: list[str], output: Path | None = None) -> Run:
    """Run it there; see `Device.run`."""
    done = subprocess.run(
        [*COMMANDS[TARGET], *arguments],
        cwd=place.folder,
        capture_output=True,
        text=True,
        errors="replace",
    )
    answer = read_answer(done.returncode, done.stdout, done.stderr, "this machine")
    if output:
        shutil.move(Path(place.folder, OUTPUT), output)
    return Run(answer)


def describe(place: Place) -> Facts:
    """See `Device.describe`; what throttles this machine is not known here."""
    about = machine.describe()
    return {
        "kind": "host",
        "model": str(about["cpu"]),
        "system": str(about["system"]),
        "abi": os.uname().machine,
        "governor": GOVERNOR.read_text().strip() if GOVERNOR.exists() else None,
    }
