"""Core ML, on macOS. Written to coremltools' documentation; not run by its authors yet."""

import sys
from functools import cache
from pathlib import Path

import numpy as np

from lorarar.artefacts.merger import MergerManifest
from lorarar.artefacts.pipeline import Stage
from lorarar.errors import LorararError
from lorarar.runtime.backends import Run, RunStage, Tensors
from lorarar.runtime.slots import filled_factors


def load(path: Path, threads: int) -> tuple[MergerManifest, Run, int]:
    """Open an .mlpackage. Core ML chooses its compute units and threads by itself."""
    if sys.platform != "darwin":
        raise LorararError(f"{path}: Core ML predicts on macOS only; use the onnxruntime backend")
    import coremltools as ct

    package = ct.models.MLModel(str(path), skip_model_load=True)
    manifest = MergerManifest.parse(package.user_defined_metadata.get("manifest"), path)
    names = {graph: list(manifest.inputs(form)) for graph, (form, _) in manifest.graphs().items()}

    @cache
    def function(graph: str):
        return ct.models.MLModel(str(path), function_name=graph)

    def run(graph: str, arrays: list[np.ndarray]) -> np.ndarray:
        return function(graph).predict(dict(zip(names[graph], arrays, strict=True)))["m"]

    return manifest, run, 1


def open_stage(path: Path, stage: Stage, threads: int) -> RunStage:
    """Open a stage of a pipeline. Dots are "__" in Core ML's names, and ranks are one per call."""
    if sys.platform != "darwin":
        raise LorararError(f"{path}: Core ML predicts on macOS only; use the onnxruntime backend")
    import coremltools as ct

    model = ct.models.MLModel(str(path))

    def run(feeds: Tensors) -> Tensors:
        given = {name: feeds[name] for name in stage.inputs}
        given |= filled_factors(feeds, stage, np.dtype(np.float16))
        answers = model.predict({name.replace(".", "__"): each for name, each in given.items()})
        return {name: answers[name.replace(".", "__")] for name in stage.outputs}

    return run
