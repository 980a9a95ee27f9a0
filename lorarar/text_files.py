"""Text files that people write: UTF-8 with or without a byte order mark, whatever the locale."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lorarar.errors import LorararError


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises LorararError if it cannot be read or is not UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LorararError(f"{path}: is not UTF-8 ({error}); save it as UTF-8") from error
    except OSError as error:
        raise LorararError(f"{path}: cannot be read ({error.strerror})") from error


def read_json_lines(path: Path, example: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read an object from each line that is not empty, with the line's number.

    Raises LorararError, which shows the `example` of a line, if one is no object.
    """
    # Not splitlines: texts may hold what it takes for the end of a line, as U+2028.
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            read = json.loads(line)
            if not isinstance(read, dict):
                raise TypeError("it is no object")
        except (ValueError, TypeError, RecursionError) as error:
            raise damaged_line(path, number, error, example) from error
        yield number, read


def damaged_line(path: Path, number: int, error: Exception, example: str) -> LorararError:
    """Return the error of a line that cannot mean what it should."""
    return LorararError(f"{path}: line {number} is damaged ({error}); each is like {example}")
