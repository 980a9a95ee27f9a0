"""One schema for every benchmark's JSON (`schema.json`), and the table that is printed."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lorarar.files import write_atomically

SCHEMA = "lorarar.benchmark.1"
WIDTH = 200


@dataclass(kw_only=True)
class Report:
    """What was measured where.

    rows: one dictionary per line of the table, all of one shape; device: what the runner ran on,
    see `lorarar.benchmarks.devices`, empty where only Python was measured.
    """

    benchmark: str
    machine: dict
    settings: dict
    rows: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    device: dict = field(default_factory=dict)

    def to_json(self) -> dict:
        fields = {key: value for key, value in vars(self).items() if key != "device" or value}
        return {"schema": SCHEMA, **fields}


def make_console() -> Console:
    """As wide as the terminal, or as a table needs in a file or a pipe."""
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def publish(report: Report, console: Console, path: Path | None) -> None:
    """Print the report, and write it as JSON if there is a path."""
    show(report, console)
    if path:
        write_json(report, path)


def write_json(report: Report, path: Path) -> None:
    """Write the report, replacing an older one.

    Raises LorararError if `path` cannot be written.
    """
    text = json.dumps(report.to_json(), indent=1)
    write_atomically(path, lambda file: file.write(text.encode()), force=True)


def show(report: Report, console: Console) -> None:
    for about in filter(None, (report.machine, report.device, report.settings)):
        console.print(", ".join(f"{key} {value}" for key, value in about.items()), highlight=False)
    table = Table(*(key.replace("_", " ") for key in report.rows[0]))
    for row in report.rows:
        table.add_row(*map(_shown, row.values()))
    console.print(table)
    for note in report.notes:
        console.print(note, highlight=False)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 100 else _whole(value)


def _whole(value: object) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)
