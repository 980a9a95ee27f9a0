"""The JSON in a results' folder, which a later run of the same kind replaces."""

import json
from pathlib import Path
from typing import Any

from lorarar.errors import LorararError
from lorarar.files import write_atomically


def refuse_others(path: Path, schema: str) -> None:
    """Raise LorararError if there is a file that is not of this schema: it is not ours."""
    if not path.exists():
        return
    try:
        known = json.loads(path.read_bytes())["schema"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        known = None
    if known != schema:
        raise LorararError(f"{path}: is not of lorarar's ({schema}); choose another folder")


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write results, replacing those of an earlier run.

    Raises LorararError if another file has this name, or it cannot be written.
    """
    refuse_others(path, results["schema"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LorararError(f"{path.parent}: cannot be made ({error}); choose another") from error
    text = json.dumps(results, indent=1) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()), force=True)
