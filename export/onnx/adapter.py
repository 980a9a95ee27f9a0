"""A LoRA as ONNX Runtime's own adapter file, for `RunOptions.add_active_adapter`."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime

from lorarar.artefacts.pipeline import read_manifest
from lorarar.errors import LorararError
from lorarar.files import refuse_existing, write_atomically
from lorarar.lora import load_lora
from lorarar.runtime.slots import slot_factors

VERSION = 1


def export_adapter(lora: Path, exported: Path, path: Path, force: bool = False) -> int:
    """Write an .onnx_adapter for an exported pipeline, in its dtype; returns its bytes.

    Only its own layers are in it; the others keep rank 0.

    Raises LorararError if the LoRA does not fit the pipeline, if that is not ONNX, or if `path`
    exists (without `force`) or cannot be written.
    """
    refuse_existing(path, force)
    pipeline = read_manifest(exported)
    if pipeline.engine != "onnx":
        raise LorararError(f"{exported}: is for {pipeline.engine}; adapters are ONNX Runtime's")
    factors = {
        name: np.ascontiguousarray(factor)  # kept, as what is made of them holds no copy
        for name, factor in slot_factors(load_lora(lora), pipeline, str(exported)).items()
    }
    adapter = onnxruntime.AdapterFormat()
    adapter.set_adapter_version(VERSION)
    adapter.set_model_version(VERSION)
    adapter.set_parameters(
        {name: onnxruntime.OrtValue.ortvalue_from_numpy(factor) for name, factor in factors.items()}
    )
    with TemporaryDirectory() as folder:
        draft = Path(folder) / "draft"
        adapter.export_adapter(str(draft))
        write_atomically(path, lambda file: file.write(draft.read_bytes()), force)
    return path.stat().st_size
