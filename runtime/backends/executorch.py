"""ExecuTorch, through its own Python binding, which imports torch.

Methods are loaded once, at the first use of each: loading, not running, is what makes a small
program slow from Python.
"""

import warnings
from functools import cache
from pathlib import Path

import numpy as np
import torch
from executorch.extension.pybindings import portable_lib
from executorch.runtime import Method, Runtime, Verification

from lorarar.errors import LorararError
from lorarar.merger_format import Manifest
from lorarar.runtime.merger import Run

# Mapped files are read-only; nothing is written to tensors made of them.
warnings.filterwarnings("ignore", "The given NumPy array is not writable")

IDENTIFIER = slice(4, 8)  # of a flatbuffer; ExecuTorch's is "ET" and two digits
EXTENDED_HEADER = b"eh00"


def load(path: Path, threads: int) -> tuple[Manifest, Run, int]:
    """Open a .pte file. Threads are set for the whole process, as its thread pool is shared."""
    portable_lib._unsafe_reset_threadpool(threads)
    return *open_program(path.read_bytes(), path), 1  # a method is not to be shared by threads


def open_program(program: bytes, path: Path) -> tuple[Manifest, Run]:
    """Open a program in memory; `path` is for messages."""
    _check_header(program, path)
    try:
        loaded = Runtime.get().load_program(program, verification=Verification.InternalConsistency)
        text = loaded.load_method("manifest").execute([])[0]
    except (RuntimeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise LorararError(f"{path}: not a usable .pte ({reason}); export it again") from error
    manifest = Manifest.parse(text, path)

    @cache
    def method(graph: str) -> Method:
        return loaded.load_method(graph)

    def run(graph: str, arrays: list[np.ndarray]) -> np.ndarray:
        return method(graph).execute([torch.from_numpy(array) for array in arrays])[0].numpy()

    return manifest, run


def _check_header(program: bytes, path: Path) -> None:
    """Catch what ExecuTorch would abort the process for: a foreign or truncated file.

    Layout: `executorch/runtime/executor/program.h`, `schema/extended_header.h`.
    """
    fits = program[IDENTIFIER].startswith(b"ET") and program[8:12] == EXTENDED_HEADER
    if fits:
        size, base, segments = (
            int.from_bytes(program[start : start + 8], "little") for start in (16, 24, 32)
        )
        fits = len(program) >= max(size, base + segments)
    if not fits:
        raise LorararError(f"{path}: not an ExecuTorch program, or truncated; export it again")
