"""The runner's figures as rows of a benchmark; on phones those of a cool and a hot one apart."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lorarar.benchmarks.devices.device import Device, DeviceName, Facts, Place, Run

PLACE_NOTES: dict[DeviceName, str] = {
    "emulated-aarch64": "instructions: of one round under emulation, exact with one thread; "
    "emulator_ms is the emulator's time and says nothing of a phone's.",
    "adb": "warm: each work after a rest; sustained: the last of all works' repetitions without.",
}
Row = dict[str, Any]
Work = Callable[[], list[Row]]


@dataclass(frozen=True)
class Pace:
    """How a phone is measured. cool_down: seconds of rest before each work; sustained: for how many
    seconds all works are then repeated without a rest, of which the last time counts."""

    cool_down: float
    sustained: float


def measure_on(
    device: Device, place: Place, name: DeviceName, works: Sequence[Work], pace: Pace
) -> tuple[list[Row], Facts]:
    """Run all works there; return their rows and what the device is.

    Names of a phone's rows end in ", warm" (each after a rest) or ", sustained".

    Raises LorararError if a work does.
    """
    if name != "adb":
        facts = device.describe(place)
        return [row for work in works for row in work()], facts
    before = device.describe(place)
    rows = []
    for work in works:
        time.sleep(pace.cool_down)
        rows += _named(work(), "warm")
    started, last = time.monotonic(), list[Row]()
    while time.monotonic() - started < pace.sustained:
        last = [row for work in works for row in work()]
    facts = dict(before)
    facts["thermal_before"] = facts.pop("thermal")
    facts["thermal_after"] = device.describe(place)["thermal"]
    return rows + _named(last, "sustained"), facts


def _named(rows: list[Row], phase: str) -> list[Row]:
    return [row | {"name": f"{row['name']}, {phase}"} for row in rows]


def times_of(row: Row, name: str, run: Run) -> Row:
    """Turn one row of the runner's into a benchmark's.

    Where instructions were counted they are what is told; time is then the emulator's alone, and
    called so.
    """
    peak = {"peak_megabytes": run.report["peak_megabytes"]}
    if "instructions" in row:
        counted = {"instructions": row["instructions"], "emulator_ms": row["median_ms"]}
        return {"name": name, "rounds": row["rounds"]} | counted | peak
    return {"name": name, "load_ms": run.report["load_ms"]} | row | {"name": name} | peak
