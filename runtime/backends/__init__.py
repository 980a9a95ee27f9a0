"""One module per engine, imported when it is asked for, each with these functions:

- `load(path, threads) -> (Manifest, Run, workers)` opens an exported hypernetwork;
- `open_stage(path, stage, threads) -> RunStage` opens one program of an exported pipeline, where
  the engine runs pipelines.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from lorarar.artefacts.formats import ENGINES, EXTRAS
from lorarar.errors import LorararError

Run = Callable[[str, list[np.ndarray]], np.ndarray]  # a graph's name, its inputs -> m
Tensors = dict[str, np.ndarray]
RunStage = Callable[[Tensors], Tensors]  # inputs and LoRA factors by name -> outputs by name

BACKENDS = ENGINES


def load_backend(name: str) -> Any:
    """Import an engine's module.

    Raises LorararError if the engine is unknown or not installed.
    """
    if name not in BACKENDS:
        raise LorararError(f"backend '{name}' is unknown; use one of {', '.join(BACKENDS)}")
    try:
        return import_module(f"lorarar.runtime.backends.{name}")
    except ImportError as error:
        raise LorararError(
            f"backend '{name}' is not installed ({error}); "
            f"run: pip install 'lorarar[{EXTRAS[name]}]'"
        ) from error
