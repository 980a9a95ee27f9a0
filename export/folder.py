"""What every exported pipeline's folder holds beside its programs, and how it is reported."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from lorarar.artefacts.formats import LARGEST_RANK, FormatName
from lorarar.artefacts.pipeline import PipelineManifest, Stage, hash_files
from lorarar.bases import base_of
from lorarar.errors import LorararError
from lorarar.export.parts import ENCODERS, Model, pixels_per_latent
from lorarar.export.report import console

WriteMerger = Callable[[Path], object]  # adds the exported hypernetwork to this folder
COPIED = ("model_index.json", "scheduler", "tokenizer", "tokenizer_2")


@dataclass(frozen=True)
class PartReport:
    """One part of an exported pipeline. error: relative to torch in float32, None if not run."""

    name: str
    megabytes: float
    error: float | None


@dataclass(frozen=True)
class PipelineReport:
    """An exported folder: its size, what its export took, and what else is to be said of it."""

    path: Path
    parts: list[PartReport]
    megabytes: float
    seconds: float
    notes: list[str]


def copy_rest(model: Model, folder: Path) -> None:
    """Copy tokenizers, the scheduler's configuration and the pipeline's index.

    Raises LorararError if the model lacks one.
    """
    for name in COPIED:
        source, target = model.folder / name, folder / name
        if not source.exists():
            raise LorararError(f"{source}: is missing; get the model again")
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)


def write_manifest(
    model: Model,
    folder: Path,
    parts: dict[str, list[Stage]],
    *,
    engine: FormatName,
    quantize: str,
    slot_dtype: str,
    side: int,
    merger: str | None,
    pairs: bool = False,
) -> None:
    """Describe a filled folder in its `lorarar.json`, with the hash of every file.

    parts: the programs of each; the rest: see `PipelineManifest`.
    """
    unet, vae = model.config("unet"), model.config("vae")
    index = json.loads((model.folder / "model_index.json").read_bytes())
    encoders = {name: model.config(name) for name in ENCODERS}
    base = base_of(
        {layer: shape for stage in parts["unet"] for layer, shape in stage.layers.items()}
    )
    assert base is not None  # unet_slots has refused all others
    PipelineManifest(
        engine=engine,
        quantize=quantize,
        base=base,
        identity=model.identity,
        slot_dtype=slot_dtype,
        pairs=pairs,
        rank=LARGEST_RANK,
        tokens=encoders["text_encoder"]["max_position_embeddings"],
        penultimate={
            name: f"hidden_states.{config['num_hidden_layers'] - 1}"
            for name, config in encoders.items()
        },
        zeros_for_empty=index.get("force_zeros_for_empty_prompt", True),
        channels=unet["in_channels"],
        side=side,
        pixels=pixels_per_latent(model),
        scaling=vae["scaling_factor"],
        parts=parts,
        merger=merger,
        files=hash_files(folder),
    ).save(folder)


def check_disk(path: Path, wanted: int) -> None:
    """Raise LorararError unless `wanted` bytes are free where `path` will be."""
    try:
        free = shutil.disk_usage(path.absolute().parent).free
    except OSError as error:
        raise LorararError(f"{path}: cannot be written ({error}); choose another place") from error
    if free < wanted:
        raise LorararError(
            f"{path}: needs {wanted / 1e9:.2f} GB, but {free / 1e9:.2f} GB are free; "
            "make room or choose another place"
        )


def show_pipeline(report: PipelineReport) -> None:
    """Print a table of the parts, the size, the time and the notes."""
    table = Table("part", "MB", "relative error")
    for part in report.parts:
        error = "not run" if part.error is None else f"{part.error:.1e}"
        table.add_row(part.name, f"{part.megabytes:.1f}", error)
    console.print(table)
    console.print(
        f"{report.path}: {report.megabytes:.1f} MB, exported in {report.seconds:.1f} s",
        soft_wrap=True,
    )
    for note in report.notes:
        console.print(note, soft_wrap=True)
