"""One module per engine, imported when it is asked for.

Each has `load`, which opens an exported hypernetwork, and, where the engine runs whole pipelines,
`open_stage`, which opens one program of them: see `Backend` and `PipelineBackend`, to which the
type checker holds every module.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from lorarar.artefacts.formats import ENGINES, EXTRAS, FORMAT_OF, Engine
from lorarar.artefacts.merger import MergerManifest
from lorarar.artefacts.pipeline import Stage
from lorarar.errors import LorararError

RunGraph = Callable[[str, list[np.ndarray]], np.ndarray]  # a graph's name, its inputs -> m
Tensors = dict[str, np.ndarray]
RunStage = Callable[[Tensors], Tensors]  # inputs and LoRA factors by name -> outputs by name

BACKENDS = ENGINES


class Backend(Protocol):
    """An engine that runs hypernetworks."""

    def load(self, path: Path, threads: int) -> tuple[MergerManifest, RunGraph, int]:
        """Open a hypernetwork: what it can do, how to run a graph, and by how many threads at once.

        Raises LorararError if the engine cannot run here, or if the file is damaged or of a newer
        format.
        """


class PipelineBackend(Backend, Protocol):
    """An engine that runs whole pipelines, too."""

    def open_stage(self, path: Path, stage: Stage, threads: int) -> RunStage:
        """Open one program of a pipeline.

        Factors that are not given count as zero. Raises LorararError if the engine cannot run
        here, or if the file is damaged or too large for the memory.
        """


def load_backend(name: Engine) -> Backend:
    """Import an engine's module.

    Raises LorararError if the engine is unknown or not installed.

    >>> manifest, run, workers = load_backend("numpy").load(checkpoint, threads=1)
    >>> manifest.dtype
    'fp32'
    """
    if name not in BACKENDS:
        raise LorararError(f"backend '{name}' is unknown; use one of {', '.join(BACKENDS)}")
    try:
        return cast(Backend, import_module(f"lorarar.runtime.backends.{name}"))
    except ImportError as error:
        raise LorararError(
            f"backend '{name}' is not installed ({error}); "
            f"run: pip install 'lorarar{EXTRAS.get(name, '')}'"
        ) from error


def load_pipeline_backend(name: Engine) -> PipelineBackend:
    """Import the module of an engine that runs whole pipelines.

    Raises LorararError as `load_backend` does, and if the engine runs hypernetworks only.
    """
    backend = load_backend(name)
    if name not in FORMAT_OF:
        raise LorararError(
            f"backend '{name}' runs hypernetworks only; use one of {', '.join(FORMAT_OF)}"
        )
    return cast(PipelineBackend, backend)


def one_line(error: Exception) -> str:
    """Return an engine's message on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


if TYPE_CHECKING:
    from lorarar.runtime.backends import coreml, executorch, numpy, onnxruntime, openvino, torch

    _HYPERNETWORKS: tuple[Backend, ...] = (numpy, torch)
    _PIPELINES: tuple[PipelineBackend, ...] = (onnxruntime, openvino, executorch, coreml)
