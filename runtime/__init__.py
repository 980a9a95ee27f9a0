"""What a device does, in Python: run exported hypernetworks. numpy and one engine, no torch.

`load_merger` opens what `export/` wrote; `Merger.merge` gives the same LoRA on each backend.
"""

from importlib import import_module
from pathlib import Path

from lorarar.errors import LorararError
from lorarar.parallel import cores
from lorarar.runtime.merger import Merger

BACKENDS = {  # name: (module, the extra that installs it)
    "onnxruntime": ("lorarar.runtime.backends.onnxruntime", "onnxruntime"),
    "executorch": ("lorarar.runtime.backends.executorch", "executorch"),
    "coreml": ("lorarar.runtime.backends.coreml", "coreml"),
    "torch": ("lorarar.runtime.backends.torch", "formats"),
    "numpy": ("lorarar.runtime.backends.numpy", ""),
}


def load_merger(
    path: str | Path, backend: str = "onnxruntime", threads: int | None = None
) -> Merger:
    """Open an exported hypernetwork: .onnx, .pte or .mlpackage; a checkpoint for torch and numpy.

    threads: how many cores to use; all if None.

    Raises LorararError if the backend is unknown, not installed or cannot run here, or if the
    file is missing, damaged, or of a newer format.
    """
    if backend not in BACKENDS:
        raise LorararError(f"backend '{backend}' is unknown; use one of {', '.join(BACKENDS)}")
    module, extra = BACKENDS[backend]
    try:
        load = import_module(module).load
    except ImportError as error:
        raise LorararError(
            f"backend '{backend}' is not installed ({error}); run: pip install 'lorarar[{extra}]'"
        ) from error
    path = Path(path)
    if not path.exists():
        raise LorararError(f"{path}: does not exist; export it with: python export/to_*.py")
    manifest, run, workers = load(path, threads or cores())
    return Merger(manifest, run, workers, str(path))


__all__ = ["BACKENDS", "Merger", "load_merger"]
