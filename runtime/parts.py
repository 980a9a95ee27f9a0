"""The parts of an exported pipeline, open: each is run stage by stage."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lorarar.artefacts.formats import FORMATS, Engine
from lorarar.artefacts.pipeline import PipelineManifest, Stage
from lorarar.errors import LorararError
from lorarar.runtime.backends import PipelineBackend, RunStage, Tensors

OpenPart = list[tuple[Stage, RunStage]]
NEEDLESS = "vae_encoder"  # for drawing


def open_parts(
    folder: Path, manifest: PipelineManifest, backend: PipelineBackend, threads: int
) -> dict[str, OpenPart]:
    """Open every part that drawing needs; weights are mapped where the engine maps them.

    Raises LorararError if a file is damaged or too large for the memory.
    """
    try:
        return {
            name: [
                (stage, backend.open_stage(folder / stage.file, stage, threads)) for stage in stages
            ]
            for name, stages in manifest.parts.items()
            if name != NEEDLESS
        }
    except (MemoryError, OSError) as error:
        raise LorararError(
            f"{folder}: unreadable, or too large for the memory here ({error!r}); "
            "export it in fewer bits"
        ) from error


def check_engine(folder: Path, manifest: PipelineManifest, backend: Engine) -> None:
    """Raise LorararError if a folder was exported for another engine."""
    fitting = FORMATS[manifest.engine].engines
    if backend not in fitting:
        raise LorararError(f"{folder}: was exported for {' or '.join(fitting)}, not for {backend}")


def run_part(part: OpenPart, tensors: Tensors, factors: Mapping[str, np.ndarray]) -> Tensors:
    """Run a part's stages one after another; returns `tensors` with all their outputs.

    factors: of LoRAs, by input name; those that a stage has no slot for are left out.
    """
    for stage, run in part:
        inputs = {name: tensors[name] for name in stage.inputs}
        given = {name: factors[name] for name in stage.lora_inputs if name in factors}
        tensors = tensors | run(inputs | given)
    return tensors
