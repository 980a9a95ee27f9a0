"""ExecuTorch, through its own Python binding, which imports torch.

Methods are loaded once, at the first use of each: loading, not running, is what makes a small
program slow from Python.
"""

import hashlib
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from executorch.extension.pybindings import portable_lib
from executorch.runtime import Method, Runtime, Verification

from lorarar.artefacts.merger import MergerManifest
from lorarar.artefacts.pipeline import Stage
from lorarar.errors import LorararError
from lorarar.quiet import without_native_notes
from lorarar.runtime.backends import RunGraph, RunStage, Tensors, one_line
from lorarar.runtime.backends.torch import as_tensor
from lorarar.runtime.slots import filled_factors

with without_native_notes():  # making the thread pool tells which files of a phone are not here
    portable_lib._threadpool_get_thread_count()

SEAL = hashlib.sha256


def load(path: Path, threads: int) -> tuple[MergerManifest, RunGraph, int]:
    """Open a .pte file. Threads are set for the whole process, as its thread pool is shared."""
    use_threads(threads)
    sealed = path.read_bytes()
    _check_seal(sealed, path)
    manifest, run = open_program(sealed, path)
    return manifest, run, 1  # a method is not to be shared by threads


@lru_cache(maxsize=1)
def use_threads(threads: int) -> None:
    """For the whole process, which has one pool; anew only if the number is another one."""
    with without_native_notes():  # what it finds out about the CPU
        portable_lib._unsafe_reset_threadpool(threads)


def open_program(program: bytes, path: Path) -> tuple[MergerManifest, RunGraph]:
    """Open a program in memory; `path` is for messages."""
    try:
        loaded = Runtime.get().load_program(program, verification=Verification.InternalConsistency)
        text = loaded.load_method("manifest").execute([])[0]
    except (RuntimeError, ValueError, AttributeError) as error:
        raise LorararError(
            f"{path}: not a usable .pte ({one_line(error)}); export it again"
        ) from error
    manifest = MergerManifest.parse(text, path)

    @cache
    def method(graph: str) -> Method:
        return loaded.load_method(graph)

    def run(graph: str, arrays: list[np.ndarray]) -> np.ndarray:
        try:
            m: np.ndarray = method(graph).execute([as_tensor(each) for each in arrays])[0].numpy()
            return m
        except RuntimeError as error:
            shapes = ", ".join("x".join(map(str, array.shape)) for array in arrays)
            raise LorararError(
                f"{path}: '{graph}' cannot take {shapes}; its ranks and widths have a limit, "
                "use the onnxruntime backend"
            ) from error

    return manifest, run


def open_stage(path: Path, stage: Stage, threads: int) -> RunStage:
    """Open one program of a pipeline, mapped; damage is caught before the engine sees it.

    A program takes all its factors in one rank: shorter ones are filled up with zeros, and
    without a LoRA it gets rank 1 of zeros.
    """
    use_threads(threads)
    _check_seal(np.memmap(path, mode="r").data if path.stat().st_size else b"", path)
    try:
        program = Runtime.get().load_program(str(path))  # its method does not keep it alive
        method = program.load_method("forward")
    except (RuntimeError, ValueError) as error:
        raise LorararError(
            f"{path}: not a usable .pte, or too large for the memory here ({one_line(error)}); "
            "export it again, or in fewer bits"
        ) from error

    def run(feeds: Tensors) -> Tensors:
        factors = filled_factors(feeds, stage, np.dtype(np.float32))
        arrays = [*(feeds[name] for name in stage.inputs), *factors.values()]
        try:
            # The engine reads other memory orders wrong without a word.
            tensors = [as_tensor(np.ascontiguousarray(array)) for array in arrays]
            outputs = method.execute(tensors)
        except RuntimeError as error:
            raise LorararError(f"{path}: cannot be run ({one_line(error)})") from error
        return {name: output.numpy() for name, output in zip(stage.outputs, outputs, strict=True)}

    return run


def seal(program: bytes) -> bytes:
    """Append a digest; engines ignore what follows the program."""
    return program + SEAL(program).digest()


def _check_seal(sealed: bytes | memoryview, path: Path) -> None:
    """Catch damage here: ExecuTorch aborts the process, or computes with damaged weights.

    Its own checks (`Verification.InternalConsistency`) miss both.
    """
    size = max(len(sealed) - SEAL().digest_size, 0)
    if SEAL(sealed[:size]).digest() != sealed[size:]:
        raise LorararError(
            f"{path}: not an exported ExecuTorch program, or damaged; export it again"
        )
