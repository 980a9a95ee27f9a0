"""What is still being written, and folders that one process at a time works in.

Each such file or folder is locked (flock) by its process until it is done. The system drops the
lock of a process that ends, however it ends: what bears a name of these and is not locked was left
by one that was killed, and goes when the next one begins.
"""

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from platform import node
from typing import IO

from lorarar.errors import LorararError

try:
    import fcntl
except ImportError:  # on Windows, where nothing is locked, and so nothing swept
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


@contextmanager
def unfinished_file(target: Path) -> Iterator[Path]:
    """Make a hidden, empty file beside `target`, to be renamed to it; what is not is removed.

    Raises OSError if it cannot be made.
    """
    part = target.with_name(_start(target) + secrets.token_hex(4))
    try:
        with _locked(part):
            yield part
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def unfinished_folder(target: Path) -> Iterator[Path]:
    """Make a hidden folder beside `target`, for its `new` content and its `old`; it is removed.

    `old` goes back where there is no `target`: its process was stopped between two renames.

    Raises OSError if it cannot be made.
    """
    part = Path(tempfile.mkdtemp(prefix=_start(target), dir=target.parent))
    try:
        with _locked(part / LOCK):
            yield part
    finally:
        _remove(part, target)


def sweep_beside(target: Path) -> None:
    """Remove what processes that were killed left of what they were writing to `target`."""
    for part in _left_by_others(target.parent, _start(target)):
        _remove(part, target)


def _start(target: Path) -> str:
    return f".{target.name}.lorarar-"


def _remove(part: Path, target: Path) -> None:
    with suppress(OSError):
        if (part / "old").exists() and not target.exists():
            (part / "old").replace(target)
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink()


@contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Make a folder in `parent`, the system's for temporary files by default, and remove it.

    Those of the same prefix that killed processes of this user left are removed before.

    Raises LorararError if it cannot be made.
    """
    parent = parent or Path(tempfile.gettempdir())
    for left in _left_by_others(parent, prefix):
        shutil.rmtree(left, ignore_errors=True)
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    except OSError as error:
        raise LorararError(
            f"{parent}: no folder can be made there ({error.strerror}); free some space or set "
            "TMPDIR to another one"
        ) from error
    try:
        with _locked(folder / LOCK):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make `folder` if there is none, and let no other process hold it meanwhile.

    Raises LorararError if one does, naming it, or if the folder cannot be written.
    """
    make_folder(folder)
    try:
        file = (folder / LOCK).open("a+")
    except OSError as error:
        raise LorararError(f"{folder}: cannot be written ({error.strerror})") from error
    with file:
        try:
            _lock(file)
        except BlockingIOError as error:
            file.seek(0)
            raise LorararError(
                f"{folder}: process {file.read().strip()} works in it; wait until it ends, or "
                "write elsewhere"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()} on {node()}")
        file.flush()
        yield


def make_folder(folder: Path) -> None:
    """Make `folder`, and those that it is in, if there is none.

    Raises LorararError if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LorararError(f"{folder}: cannot be made ({error}); choose another place") from error


def _lock(file: IO) -> None:
    """Raises BlockingIOError if another process has locked it."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return  # of a file system without locks, where nothing is swept either


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Make a file that is locked before it has its name, so that nobody takes it for left."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.touch(exist_ok=False)
        if fcntl is None:  # Windows renames no open file
            fresh.rename(path)
            yield
            return
        with fresh.open("rb+") as file:
            _lock(file)
            fresh.rename(path)
            yield
    finally:
        fresh.unlink(missing_ok=True)


def _left_by_others(parent: Path, start: str) -> Iterator[Path]:
    """What bears such a name, is this user's and is not locked, but by us until the next one."""
    if fcntl is None:
        return
    ours = re.compile(re.escape(start) + "[a-z0-9_]{8}")
    with suppress(OSError):
        for path in [path for path in parent.iterdir() if ours.fullmatch(path.name)]:
            with suppress(OSError):
                if path.is_symlink() or path.lstat().st_uid != os.getuid():
                    continue
                with (path / LOCK if path.is_dir() else path).open("rb+") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    yield path
