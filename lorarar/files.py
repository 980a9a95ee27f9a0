"""Safetensors in and out, without torch: mapped and checked on the way in, atomic on the way out.

Reading touches the header only; a tensor's bytes are paged in when it is used. Writing streams:
tensors that are still to be computed (`Deferred`) are made, written and dropped a few at a time.
"""

import hashlib
import json
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike
from safetensors import SafetensorError, safe_open

from lorarar.errors import LorararError
from lorarar.unfinished import sweep_beside, unfinished_file, unfinished_folder

DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
    "C64": np.dtype(np.complex64),
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
AHEAD = 16
PICKLES = (b"PK\x03\x04", b"\x80")  # how torch.save begins a file, since version 1.6 and before
LISTING = "lorarar.json"  # of an exported folder's files
WRITTEN = re.compile(  # in folders that no LISTING describes: PEFT's adapters, Core ML's packages
    r"((text_encoder|text_encoder_2)/)?adapter_(config\.json|model\.safetensors)"
    r"|Manifest\.json|Data/com\.apple\.CoreML/(model\.mlmodel|weights/weight\.bin)"
)


@dataclass(frozen=True)
class Deferred:
    """An array that is computed each time it is read (`np.asarray`), so that merges stream."""

    shape: tuple[int, ...]
    dtype: np.dtype
    make: Callable[[], np.ndarray]

    @property
    def ndim(self) -> int:
        """Count the axes, as numpy does."""
        return len(self.shape)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        made = self.make()
        return made if dtype is None else made.astype(dtype)


Array = np.ndarray | Deferred


def read_safetensors(
    path: Path, mapped: bool = True
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return a file's read-only tensors and its metadata.

    mapped: only the header is read, the rest when it is used; a file that is cut short meanwhile
    ends the process by SIGBUS. Else all of it is read into memory (271 MB that the system has
    cached: 56 ms), for processes that keep tensors while others may write files.
    Where the header's length is no multiple of 8, as older writers left it, tensors are not
    aligned in memory.

    Raises LorararError if the file is missing, a directory, truncated, no safetensors file, holds a
    dtype that numpy cannot show, or is changed while it is read.
    """
    if not path.is_file():
        kind = "is a directory" if path.is_dir() else "does not exist"
        raise LorararError(f"{path}: {kind}; name a .safetensors file")
    try:
        with safe_open(path, framework="np"):
            pass  # the safetensors library checks the header: sizes, overlaps, offsets
        with path.open("rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(start - 8))
    except OSError as error:
        raise LorararError(f"{path}: cannot be read ({error.strerror})") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        _refuse_pickle(path)
        reason = " ".join(str(error).split())
        raise LorararError(
            f"{path}: not a valid safetensors file ({reason}); get it again"
        ) from error
    metadata = header.pop("__metadata__", None) or {}
    for name, entry in header.items():
        if not isinstance(entry, dict):  # a list of its fields passes the library's check
            raise LorararError(
                f"{path}: not a valid safetensors file (tensor '{name}' is no object); get it again"
            )
    size = path.stat().st_size - start
    if not size:
        data = np.empty(0, np.uint8)
    else:
        data = np.memmap(path, np.uint8, "r", start) if mapped else _read_rest(path, start, size)
    return {name: _view(data, entry, name, path) for name, entry in header.items()}, metadata


def _read_rest(path: Path, start: int, size: int) -> np.ndarray:
    data = np.fromfile(path, np.uint8, offset=start)
    if data.size != size:
        raise LorararError(f"{path}: was changed while it was read; try again")
    data.flags.writeable = False
    return data


def _view(data: np.ndarray, entry: dict, name: str, path: Path) -> np.ndarray:
    if entry["dtype"] not in DTYPES:
        raise LorararError(
            f"{path}: tensor '{name}' has dtype {entry['dtype']}; save it as F32, F16 or BF16"
        )
    begin, _ = entry["data_offsets"]
    try:
        return np.ndarray(entry["shape"], DTYPES[entry["dtype"]], data, begin)
    except ValueError as error:  # such as an axis of 0 beside one of 2**62
        raise LorararError(f"{path}: tensor '{name}' has an impossible shape ({error})") from error


def _refuse_pickle(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(PICKLES):
        raise LorararError(
            f"{path}: not a valid safetensors file but a pickle (torch.save), which may run code "
            "when it is read; if you trust it, save what torch.load(..., weights_only=True) gives "
            "with safetensors.torch.save_file"
        )


def write_safetensors(
    path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str], force: bool = False
) -> None:
    """Write all or nothing, a few tensors at a time.

    Raises LorararError if `path` exists and `force` is false, or if it cannot be written.
    """
    write_atomically(path, lambda file: dump_safetensors(file, tensors, metadata), force)


def dump_safetensors(
    file: BinaryIO, tensors: Mapping[str, Array], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file, a few tensors at a time, those of wide dtypes first.

    Raises LorararError if a tensor that is computed meanwhile is not of the shape and dtype that
    it announced.
    """
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)  # keeps alignment
    # File names that are no UTF-8, which may be among the values, would make the file unreadable.
    about = {key: text.encode(errors="backslashreplace").decode() for key, text in metadata.items()}
    header: dict[str, object] = {"__metadata__": about} if about else {}
    offset = 0
    for name, tensor in ordered:
        end = offset + int(np.prod(tensor.shape, dtype=np.int64)) * tensor.dtype.itemsize
        header[name] = {
            "dtype": CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    file.write(len(encoded).to_bytes(8, "little") + encoded)
    arrays = _computed_ahead([tensor for _, tensor in ordered])
    for (name, tensor), array in zip(ordered, arrays, strict=True):
        if (array.shape, array.dtype) != (tensor.shape, tensor.dtype):
            raise LorararError(
                f"tensor '{name}' came out as {array.dtype} {array.shape}, but "
                f"{tensor.dtype} {tensor.shape} was announced; please report this"
            )
        file.write(array.reshape(-1).view(np.uint8).data)


def _computed_ahead(arrays: list[Array]) -> Iterator[np.ndarray]:
    """Compute the next few arrays while one is written."""
    with ThreadPoolExecutor(1) as pool:
        pending: deque[Future[np.ndarray]] = deque()
        for array in arrays:
            pending.append(pool.submit(_computed, array))
            if len(pending) > AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _computed(array: Array) -> np.ndarray:
    return np.asarray(array, order="C")  # np.ascontiguousarray gives scalars an axis


def write_atomically(path: Path, write: Callable[[BinaryIO], object], force: bool) -> None:
    """Let `write` fill a temporary file beside `path`, sync it, and rename it to `path`.

    What is there is replaced with `force` only, and only a file: links are followed, and a file
    that is replaced keeps its permissions.

    Raises LorararError if `path` exists and may not be replaced, or if it cannot be written.
    """
    target = Path(os.path.realpath(path))
    sweep_beside(target)
    refuse_existing(path, force)
    if target.is_dir():
        raise LorararError(f"{path}: is a folder; name a file")
    try:
        with unfinished_file(target) as part:
            with part.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, part)
            part.replace(target)
    except OSError as error:
        raise LorararError(f"{path}: cannot be written ({error}); choose another place") from error


def write_folder_atomically(path: Path, write: Callable[[Path], object], force: bool) -> None:
    """Let `write` fill a temporary folder beside `path`, then rename it to `path`.

    With `force` a folder is replaced if it holds nothing but what lorarar writes into folders.

    Raises LorararError if `path` exists and may not be replaced, or if it cannot be written.
    """
    target = Path(os.path.realpath(path))
    sweep_beside(target)
    refuse_existing(path, force)
    if target.is_file():
        raise LorararError(f"{path}: is a file; name a folder")
    try:
        with unfinished_folder(target) as part:
            (part / "new").mkdir()
            write(part / "new")
            if target.exists():
                target.replace(part / "old")
            (part / "new").replace(target)
    except OSError as error:
        raise LorararError(f"{path}: cannot be written ({error}); choose another place") from error


def refuse_existing(path: Path, force: bool) -> None:
    """Raise LorararError if `path` exists; with `force`, if lorarar cannot have written it.

    What it can have written are files, and folders that hold nothing but its own files.
    """
    if not path.exists() or (force and path.is_file()):
        return
    if not force:
        raise LorararError(f"{path}: exists already; pass --force to replace it")
    if not path.is_dir():
        raise LorararError(f"{path}: is a device, not a file; choose another place")
    listed = _listed(path)
    for entry in sorted(path.rglob("*")):
        name = entry.relative_to(path).as_posix()
        is_ours = name in listed or WRITTEN.fullmatch(name)
        if not (entry.is_dir() and not entry.is_symlink()) and not is_ours:
            raise LorararError(
                f"{path}: holds '{name}', which lorarar did not write, so --force does not replace "
                "this folder; choose another place or remove it yourself"
            )


def _listed(folder: Path) -> set[str]:
    """Name the files that an exported folder's manifest lists, and the manifest."""
    try:
        return {LISTING, *json.loads((folder / LISTING).read_bytes())["files"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def user_cache(name: str) -> Path:
    """Return lorarar's folder of this name in the user's cache."""
    # Path.home() raises for a user without a home, who may name the folder all the same.
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache, "lorarar", name)


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
