"""Benchmarks' JSON files, read and checked; benchmarks/schema.json says what they hold."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorarar.errors import LorararError, printable

SCHEMA = "lorarar.benchmark.1"
LARGEST = 1e18  # no time, count or size is beyond; what is below its inverse is drawn as 0
Value = str | int | float | None
Row = Mapping[str, Value]


@dataclass(frozen=True)
class Measurement:
    """What one file says was measured where. rows: of any keys, each with a `name`."""

    source: str
    benchmark: str
    machine: Row
    settings: Row
    rows: list[Row]
    notes: list[str]
    device: Row = field(default_factory=dict)

    @property
    def is_elsewhere(self) -> bool:
        """Whether a device was measured that is not the machine itself."""
        return self.device.get("kind", "host") != "host"

    @property
    def place(self) -> str:
        """Name the device or, if it is the machine itself, its processor."""
        if self.is_elsewhere:
            return str(self.device.get("model") or self.device["kind"])
        cores = self.machine["cores"]
        return f"{self.machine['cpu']}, {cores} core{'' if cores == 1 else 's'}"


def number(row: Row, key: str) -> float | None:
    """Return a row's number for a plot, None where it has none, or text."""
    value = row.get(key)
    if not isinstance(value, int | float):
        return None
    return float(value) if abs(value) > 1 / LARGEST else 0.0


def read_measurements(paths: Iterable[Path]) -> list[Measurement]:
    """Read files in their order.

    Raises LorararError for a file that cannot be read, is no JSON, is of another schema, lacks a
    key or has a value of another type, and for one that says what another said before.
    """
    seen: dict[str, Path] = {}
    measurements = []
    for path in paths:
        loaded = _load(path)
        text = json.dumps(loaded, sort_keys=True)
        if text in seen:
            raise LorararError(f"{path}: the same measurement as {seen[text]}; name it once")
        seen[text] = path
        measurements.append(_checked(loaded, path))
    return measurements


def _load(path: Path) -> Any:
    if not path.is_file():
        kind = "is no file" if path.exists() else "does not exist"
        raise LorararError(f"{path}: {kind}; name a JSON file that a benchmark wrote (--json)")
    try:
        return json.loads(path.read_bytes(), object_pairs_hook=_without_repeats)
    except OSError as error:
        raise LorararError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise LorararError(f"{path}: not valid JSON ({error}); run the benchmark again") from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key '{repeated}' twice in one object")
    return found


def _checked(loaded: Any, path: Path) -> Measurement:
    schema = loaded.get("schema") if isinstance(loaded, dict) else None
    if schema != SCHEMA:
        raise LorararError(
            f"{path}: schema {schema!r}, but the report reads '{SCHEMA}'; "
            "name a JSON file that a benchmark wrote (--json)"
        )
    kinds = {"benchmark": str, "machine": dict, "settings": dict, "rows": list, "notes": list}
    for key, kind in kinds.items():
        if not isinstance(loaded.get(key), kind):
            found = "has another type" if key in loaded else "is missing"
            raise _wrong(path, f"'{key}' {found}")
    for key in ("cpu", "cores"):
        if key not in loaded["machine"]:
            raise _wrong(path, f"'machine' lacks '{key}'")
    if not loaded["rows"]:
        raise _wrong(path, "'rows' is empty")
    if not all(isinstance(note, str) for note in loaded["notes"]):
        raise _wrong(path, "'notes' holds other things than text")
    rows = [_row(row, f"row {index}", path) for index, row in enumerate(loaded["rows"], 1)]
    for index, row in enumerate(rows, 1):
        if not isinstance(row.get("name"), str):
            raise _wrong(path, f"row {index} lacks 'name'")
    return Measurement(
        source=printable(path.name),
        benchmark=printable(loaded["benchmark"]),
        machine=_row(loaded["machine"], "'machine'", path),
        settings=_row(loaded["settings"], "'settings'", path),
        rows=rows,
        notes=[printable(note) for note in loaded["notes"]],
        device=_row(loaded.get("device", {}), "'device'", path),
    )


def _row(found: Any, where: str, path: Path) -> Row:
    """Return one flat object with its text made printable."""
    if not isinstance(found, dict):
        raise _wrong(path, f"{where} is no object")
    for key, value in found.items():
        if isinstance(value, str) or value is None:
            continue
        # A bool is an int to Python, and NaN is below nothing.
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and abs(value) < LARGEST):
            raise _wrong(path, f"{where}: '{key}' is no text, null or number below {LARGEST:g}")
    return {
        printable(key): printable(value) if isinstance(value, str) else value
        for key, value in found.items()
    }


def _wrong(path: Path, what: str) -> LorararError:
    return LorararError(f"{path}: {what}; see benchmarks/schema.json, or run the benchmark again")
