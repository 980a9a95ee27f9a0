"""Where the runner measures: this machine, an emulated aarch64, a phone by adb."""

from typing import get_args

from lorarar.benchmarks.devices import adb, emulated, host
from lorarar.benchmarks.devices.device import Choice, Device, DeviceName
from lorarar.errors import LorararError
from lorarar.runtime.native.build import Engine as RunnerEngine

DEVICES: dict[DeviceName, Device] = {"host": host, "emulated-aarch64": emulated, "adb": adb}
RUNNERS: tuple[RunnerEngine, ...] = get_args(RunnerEngine)


def choose(text: str, cores: str | None = None, threads: int = 1) -> Choice:
    """Read `--device`.

    Raises LorararError for what is no device, or a mask that is no hexadecimal number.

    >>> choose("adb:emulator-5554").serial
    'emulator-5554'
    """
    name, colon, serial = text.partition(":")
    for known in DEVICES:
        if name == known and (known == "adb" or not colon) and bool(serial) == bool(colon):
            break
    else:
        raise LorararError(
            f"--device {text}: unknown; use host, emulated-aarch64, adb or adb:SERIAL"
        )
    if cores is not None and not _is_mask(cores):
        raise LorararError(f"--cores {cores}: no mask; give hexadecimal digits, such as f0")
    return Choice(known, serial or None, cores, threads)


def _is_mask(text: str) -> bool:
    try:
        return int(text, 16) > 0
    except ValueError:
        return False


def runner_engine(backend: str) -> RunnerEngine:
    """Raises LorararError if the runner has no such engine."""
    for engine in RUNNERS:
        if engine == backend:
            return engine
    raise LorararError(
        f"--backend {backend}: on other devices the runner measures; use {' or '.join(RUNNERS)}"
    )
