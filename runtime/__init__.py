"""What a device does, in Python: run exported hypernetworks. numpy and one engine, no torch.

`load_merger` opens an exported hypernetwork; `Merger.merge` gives the same LoRA on each backend.
`lorarar.runtime.pipeline.Pipeline` opens a whole exported model, and draws.
"""

from pathlib import Path

from lorarar.artefacts.formats import Engine
from lorarar.errors import LorararError
from lorarar.parallel import cores
from lorarar.runtime.backends import BACKENDS, load_backend
from lorarar.runtime.merger import Merger


def load_merger(
    path: str | Path, backend: Engine = "onnxruntime", threads: int | None = None
) -> Merger:
    """Open an exported hypernetwork: .onnx, .pte or .mlpackage; a checkpoint for torch and numpy.

    threads: how many cores to use; all if None.

    Raises LorararError if the backend is unknown, not installed or cannot run here, or if the
    file is missing, damaged, or of a newer format.

    >>> merger = load_merger(artefact, backend="onnxruntime", threads=1)
    >>> merger.manifest.dtype
    'fp16'
    """
    engine = load_backend(backend)
    path = Path(path)
    if not path.exists():
        raise LorararError(f"{path}: does not exist; export it with: python export/to_*.py")
    return Merger.open(path, engine, threads or cores())


__all__ = ["BACKENDS", "Merger", "load_merger"]
