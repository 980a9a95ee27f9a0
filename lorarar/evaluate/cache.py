"""Every answer on disk at once, so that what is stopped goes on and nothing is asked twice."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from lorarar.errors import LorararError
from lorarar.evaluate.calls import Reply

FORMAT = 1
TABLE = """CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, text TEXT NOT NULL, yes REAL,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL
) WITHOUT ROWID"""


class Cache:
    """Answers by `Call.key`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, key: str) -> Reply | None:
        """Return the answer, if there is one."""
        row = self._connection.execute(
            "SELECT text, yes, input_tokens, output_tokens FROM answers WHERE key = ?", (key,)
        ).fetchone()
        return Reply(*row) if row else None

    def put(self, key: str, reply: Reply) -> None:
        """Keep an answer; it is on disk when this returns."""
        row = (key, reply.text, reply.yes, reply.input_tokens, reply.output_tokens)
        with self._connection:
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", row)


@contextmanager
def open_cache(path: Path, dry: bool = False) -> Iterator[Cache]:
    """Open or make a cache; with `dry`, one that does not exist is not made.

    Raises LorararError if it cannot be written, is no cache, or is of a newer version.
    """
    kept_in_memory = dry and not path.exists()
    try:
        if not kept_in_memory:
            path.parent.mkdir(parents=True, exist_ok=True)
        with closing(
            sqlite3.connect(":memory:" if kept_in_memory else path, timeout=60)
        ) as connection:
            _prepare(connection, path)
            yield Cache(connection)
    except (FileExistsError, NotADirectoryError, PermissionError, sqlite3.DatabaseError) as error:
        raise LorararError(
            f"{path}: cannot keep answers ({error}); name another folder or remove the file"
        ) from error


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    # A killed process loses nothing so; a power failure may cost the last answers.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in (0, FORMAT):
        raise LorararError(f"{path}: is of a newer lorarar; name another folder")
    connection.execute(TABLE)
    connection.execute(f"PRAGMA user_version = {FORMAT}")
