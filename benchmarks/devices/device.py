"""What every device is asked, and how the runner's answer is read.

A device is a module with the functions of `Device`; `DEVICES` in this package has them all.
"""

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, Protocol

from lorarar.errors import LorararError
from lorarar.runtime.native.build import Target

DeviceName = Literal["host", "emulated-aarch64", "adb"]
Facts = dict[str, str | float | None]
REFUSED, OTHER_OUTPUT = 2, 1  # the runner's exit codes, see docs/native.md
KILLED = {
    134: "aborted",
    135: "crashed",
    137: "was killed, perhaps for its memory",
    139: "crashed",
}
OUTPUT = "out.safetensors"  # what the runner is told to write, in a bundle


@dataclass(frozen=True)
class Choice:
    """Which device, and how the runner is to run there.

    serial: of one phone among several; cores: a mask in hexadecimal digits to pin it to, in place
    of the fastest.
    """

    name: DeviceName
    serial: str | None = None
    cores: str | None = None
    threads: int = 1


@dataclass(frozen=True)
class Place:
    """Where a bundle lies: its folder there; on phones also the serial and the mask of cores."""

    folder: str
    serial: str = ""
    cores: str = ""


@dataclass(frozen=True)
class Run:
    """What the runner printed, and where they were counted the instructions of every round."""

    report: dict[str, Any]
    instructions: dict[str, list[int]] | None = None

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The runner's rows by name, with the median of their instructions if there are any."""
        counted = self.instructions or {}
        return {
            row["name"]: row
            | ({"instructions": int(median(counted[row["name"]]))} if counted else {})
            for row in self.report["rows"]
        }


class Device(Protocol):
    """The functions of a device's module. TARGET: what the runner is built for."""

    TARGET: Target

    def put(self, bundle: Path, choice: Choice) -> AbstractContextManager[Place]:
        """Bring a bundle there for as long as the context lasts.

        Raises LorararError if the device is not there or does not take it.
        """

    def run(self, place: Place, arguments: list[str], output: Path | None = None) -> Run:
        """Run `lorarar-run` with these arguments, and threads as they say.

        output: where to bring what it writes, as `-o OUTPUT` is then among its arguments.

        Raises LorararError if it fails, with its own line if it refuses its input.
        """

    def describe(self, place: Place) -> Facts:
        """What the device is, and `thermal`, its state now; for the benchmark's JSON."""


def read_answer(status: int, printed: str, said: str, where: str) -> dict[str, Any]:
    """Return the JSON object that the runner printed; status: its exit code, negative a signal.

    Raises LorararError in the runner's own words if it refused its input, or saying how it ended.
    """
    if status == REFUSED and said.strip():
        raise LorararError(said.strip().splitlines()[-1].removeprefix("error: "))
    code = 128 - status if status < 0 else status
    if code in KILLED:
        raise LorararError(f"{where}: the runner {KILLED[code]}; try a smaller base or rank")
    if status not in (0, OTHER_OUTPUT):
        last = (said.strip() or "nothing").splitlines()[-1]
        raise LorararError(f"{where}: the runner ended with status {status}, saying: {last}")
    try:
        answer: dict[str, Any] = json.loads(printed)
    except ValueError as error:
        raise LorararError(
            f"{where}: the runner printed no JSON ({error}); run it again"
        ) from error
    return answer
