"""Safetensors in and out: checked on the way in, atomic on the way out."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lorarar.errors import LorararError


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a file's memory-mapped tensors and metadata.

    Raises LorararError if the file is missing, a directory, truncated or no safetensors file,
    or if a tensor holds NaN or infinity.
    """
    if not path.is_file():
        kind = "is a directory" if path.is_dir() else "does not exist"
        raise LorararError(f"{path}: {kind}; name a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise LorararError(
            f"{path}: not a valid safetensors file ({error}); get it again"
        ) from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise LorararError(f"{path}: tensor '{name}' has NaN or infinite weights; get it again")
    return tensors, metadata


def write_safetensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str], force: bool = False
) -> None:
    """Write all or nothing: to a temporary name beside `path`, synced, then renamed.

    Raises LorararError if `path` exists and `force` is false, or if it cannot be written.
    """
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda part: save_file(contiguous, part, metadata), force)


def write_atomically(path: Path, write: Callable[[Path], None], force: bool) -> None:
    if path.exists() and not force:
        raise LorararError(f"{path}: exists already; pass --force to replace it")
    part = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        part = Path(name)
        write(part)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.chmod(0o644)
        part.replace(path)
    except (SafetensorError, OSError) as error:
        raise LorararError(f"{path}: cannot be written ({error}); choose another place") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
