"""ONNX Runtime: a session per file. Of a hypernetwork's graphs a run feeds and fetches one."""

from pathlib import Path

import numpy as np
import onnxruntime

from lorarar.artefacts.merger import MergerManifest
from lorarar.artefacts.pipeline import Stage
from lorarar.errors import LorararError
from lorarar.runtime.backends import RunGraph, RunStage, Tensors, one_line


def load(path: Path, threads: int) -> tuple[MergerManifest, RunGraph, int]:
    """Open an .onnx file on the CPU, one thread per run."""
    session = _open(path, 1)
    text = session.get_modelmeta().custom_metadata_map.get("manifest")
    manifest = MergerManifest.parse(text, path)
    names = {
        graph: [f"{graph}.{part}" for part in manifest.inputs(form)]
        for graph, (form, _) in manifest.graphs().items()
    }
    only_this_graph = onnxruntime.RunOptions()
    only_this_graph.only_execute_path_to_fetches = True

    def run(graph: str, arrays: list[np.ndarray]) -> np.ndarray:
        feeds = dict(zip(names[graph], arrays, strict=True))
        m: np.ndarray = session.run([f"{graph}.m"], feeds, only_this_graph)[0]
        return m

    return manifest, run, threads


def open_stage(path: Path, stage: Stage, threads: int) -> RunStage:
    """Open one part of a pipeline; factors that are not fed have rank 0."""
    session = _open(path, threads)

    def run(feeds: Tensors) -> Tensors:
        try:
            outputs = session.run(stage.outputs, feeds)
        except Exception as error:  # its exceptions derive from Exception alone
            raise LorararError(f"{path}: cannot be run ({one_line(error)})") from error
        return dict(zip(stage.outputs, outputs, strict=True))

    return run


def _open(path: Path, threads: int) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(
            str(path), session_options(threads), providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise LorararError(
            f"{path}: not a usable ONNX file, or too large for the memory here "
            f"({one_line(error)}); export it again"
        ) from error


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """How sessions are opened: weights behind DequantizeLinear are widened to float32 now, and not
    in each run."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options
