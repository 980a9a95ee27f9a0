"""ONNX Runtime: one session over all graphs; a run feeds one graph and asks for its output only."""

from pathlib import Path

import numpy as np
import onnxruntime

from lorarar.errors import LorararError
from lorarar.merger_format import Manifest
from lorarar.runtime.merger import Run


def load(path: Path, threads: int) -> tuple[Manifest, Run, int]:
    """Open an .onnx file on the CPU, one thread per run."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        text = session.get_modelmeta().custom_metadata_map.get("manifest")
    except Exception as error:  # its exceptions derive from Exception alone
        reason = " ".join(str(error).split())[:200]
        raise LorararError(f"{path}: not a usable ONNX file ({reason}); export it again") from error
    manifest = Manifest.parse(text, path)
    names = {
        graph: [f"{graph}.{part}" for part in manifest.inputs(form)]
        for graph, (form, _) in manifest.graphs().items()
    }
    only_this_graph = onnxruntime.RunOptions()
    only_this_graph.only_execute_path_to_fetches = True

    def run(graph: str, arrays: list[np.ndarray]) -> np.ndarray:
        feeds = dict(zip(names[graph], arrays, strict=True))
        return session.run([f"{graph}.m"], feeds, only_this_graph)[0]

    return manifest, run, threads
