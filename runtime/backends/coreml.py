"""Core ML, on macOS. Written to coremltools' documentation; not run by its authors yet."""

import sys
from functools import cache
from pathlib import Path

import numpy as np

from lorarar.errors import LorararError
from lorarar.merger_format import Manifest
from lorarar.runtime.backends import Run


def load(path: Path, threads: int) -> tuple[Manifest, Run, int]:
    """Open an .mlpackage. Core ML chooses its compute units and threads by itself."""
    if sys.platform != "darwin":
        raise LorararError(f"{path}: Core ML predicts on macOS only; use the onnxruntime backend")
    import coremltools as ct

    package = ct.models.MLModel(str(path), skip_model_load=True)
    manifest = Manifest.parse(package.user_defined_metadata.get("manifest"), path)
    names = {graph: list(manifest.inputs(form)) for graph, (form, _) in manifest.graphs().items()}

    @cache
    def function(graph: str):
        return ct.models.MLModel(str(path), function_name=graph)

    def run(graph: str, arrays: list[np.ndarray]) -> np.ndarray:
        return function(graph).predict(dict(zip(names[graph], arrays, strict=True)))["m"]

    return manifest, run, 1
