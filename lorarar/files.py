"""Safetensors in and out, without torch: mapped and checked on the way in, atomic on the way out.

Reading touches the header only; a tensor's bytes are paged in when it is used. Writing streams:
tensors that are still to be computed (`Deferred`) are made, written and dropped a few at a time.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from lorarar.errors import LorararError

DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
AHEAD = 16


@dataclass(frozen=True)
class Deferred:
    """An array that is computed each time it is read (`np.asarray`), so that merges stream."""

    shape: tuple[int, ...]
    dtype: np.dtype
    make: Callable[[], np.ndarray]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        made = self.make()
        return made if dtype is None else made.astype(dtype)


Array = np.ndarray | Deferred


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return a file's memory-mapped, read-only tensors and its metadata, reading only the header.

    Raises LorararError if the file is missing, a directory, truncated, no safetensors file, or
    holds a dtype that no LoRA has.
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
    except (SafetensorError, OSError, ValueError) as error:
        raise LorararError(
            f"{path}: not a valid safetensors file ({error}); get it again"
        ) from error
    metadata = header.pop("__metadata__", {})
    size = path.stat().st_size - start
    data = np.memmap(path, np.uint8, "r", start) if size else np.empty(0, np.uint8)
    return {name: _view(data, entry, name, path) for name, entry in header.items()}, metadata


def _view(data: np.ndarray, entry: dict, name: str, path: Path) -> np.ndarray:
    if entry["dtype"] not in DTYPES:
        raise LorararError(
            f"{path}: tensor '{name}' has dtype {entry['dtype']}; save it as F32, F16 or BF16"
        )
    begin, _ = entry["data_offsets"]
    array = np.ndarray(entry["shape"], DTYPES[entry["dtype"]], data, begin)
    return array if array.flags.aligned else array.copy()


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
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)  # keeps alignment
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
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
    for array in _computed_ahead([tensor for _, tensor in ordered]):
        file.write(array.reshape(-1).view(np.uint8).data)


def _computed_ahead(arrays: list[Array]) -> Iterator[np.ndarray]:
    """Compute the next few arrays while one is written."""
    with ThreadPoolExecutor(1) as pool:
        pending: deque[Future[np.ndarray]] = deque()
        for array in arrays:
            pending.append(pool.submit(np.ascontiguousarray, array))
            if len(pending) > AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def write_atomically(path: Path, write: Callable[[BinaryIO], object], force: bool) -> None:
    """Let `write` fill a temporary file beside `path`, sync it, and rename it to `path`.

    Raises LorararError if `path` exists and `force` is false, or if it cannot be written.
    """
    refuse_existing(path, force)
    part = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        part = Path(name)
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        raise LorararError(f"{path}: cannot be written ({error}); choose another place") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def write_folder_atomically(path: Path, write: Callable[[Path], object], force: bool) -> None:
    """Let `write` fill a temporary folder beside `path`, then rename it to `path`.

    Raises LorararError if `path` exists and `force` is false, or if it cannot be written.
    """
    refuse_existing(path, force)
    part = None
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        (part / "new").mkdir()
        write(part / "new")
        if path.exists():
            path.replace(part / "old")
        (part / "new").replace(path)
    except OSError as error:
        raise LorararError(f"{path}: cannot be written ({error}); choose another place") from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def refuse_existing(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise LorararError(f"{path}: exists already; pass --force to replace it")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
