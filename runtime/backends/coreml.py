"""Core ML, on macOS. Written to coremltools' documentation; not run by its authors yet."""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lorarar.artefacts.merger import MergerManifest
from lorarar.artefacts.pipeline import Stage
from lorarar.errors import LorararError
from lorarar.runtime.backends import RunGraph, RunStage, Tensors
from lorarar.runtime.slots import filled_factors


def load(path: Path, threads: int) -> tuple[MergerManifest, RunGraph, int]:
    """Open an .mlpackage. Core ML chooses its compute units and threads by itself."""
    package = _open(path, skip_model_load=True)
    manifest = MergerManifest.parse(package.user_defined_metadata.get("manifest"), path)
    names = {graph: list(manifest.inputs(form)) for graph, (form, _) in manifest.graphs().items()}

    @cache
    def function(graph: str) -> Any:
        return _open(path, function_name=graph)

    def run(graph: str, arrays: list[np.ndarray]) -> np.ndarray:
        feeds = dict(zip(names[graph], arrays, strict=True))
        m: np.ndarray = function(graph).predict(feeds)["m"]
        return m

    return manifest, run, 1


def open_stage(path: Path, stage: Stage, threads: int) -> RunStage:
    """Open a stage of a pipeline. Dots are "__" in Core ML's names, and ranks are one per call."""
    model = _open(path)

    def run(feeds: Tensors) -> Tensors:
        given = {name: feeds[name] for name in stage.inputs}
        given |= filled_factors(feeds, stage, np.dtype(np.float16))
        outputs = model.predict({name.replace(".", "__"): each for name, each in given.items()})
        return {name: outputs[name.replace(".", "__")] for name in stage.outputs}

    return run


def _open(path: Path, **options: Any) -> Any:
    if sys.platform != "darwin":
        raise LorararError(f"{path}: Core ML predicts on macOS only; use the onnxruntime backend")
    import coremltools as ct

    return ct.models.MLModel(str(path), **options)
