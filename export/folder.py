"""What every exported pipeline's folder holds beside its programs, and how it is reported."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from lorarar.artefacts.formats import FORMATS, LARGEST_RANK, FormatName, Quantize
from lorarar.artefacts.pipeline import PipelineManifest, Stage, hash_files
from lorarar.bases import base_of
from lorarar.command import console
from lorarar.errors import LorararError
from lorarar.export.exporters import export_hypernet
from lorarar.export.parts import ENCODER_CLASSES, OpenedModel, pixels_per_latent
from lorarar.export.report import size_in_megabytes
from lorarar.export.rest import write_rest
from lorarar.files import write_folder_atomically
from lorarar.hypernet import Hypernet


@dataclass(frozen=True)
class PartReport:
    """One part of an exported pipeline. error: relative to torch in float32, None if not run."""

    name: str
    megabytes: float
    error: float | None


@dataclass(frozen=True, kw_only=True)
class PipelineReport:
    """An exported folder: its size, what its export took, and what else is to be said of it."""

    path: Path
    parts: list[PartReport]
    megabytes: float
    seconds: float
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What the manifest tells of a format's programs; see `PipelineManifest`."""

    engine: FormatName
    quantize: Quantize
    slot_dtype: str
    side: int
    pairs: bool = False


@dataclass(frozen=True, kw_only=True)
class Programs:
    """What was written: each part's programs and its error, None if not run, and notes."""

    stages: dict[str, list[Stage]]
    errors: dict[str, float | None]
    notes: list[str] = field(default_factory=list)


def write_pipeline(
    model: OpenedModel,
    path: Path,
    write_programs: Callable[[Path], Programs],
    traits: Traits,
    *,
    hypernet: Hypernet | None,
    force: bool,
    needed: int,
    started: float,
) -> PipelineReport:
    """Write a folder: programs, all that they need beside them, and perhaps a hypernetwork.

    write_programs: fills a temporary folder. needed: bytes that must be free. started: when the
    export began, in seconds of `time.perf_counter`.

    Raises LorararError if the path exists (without `force`) or cannot be written, if there is not
    enough room, or if the model lacks a file.
    """
    check_disk(path, needed)
    written: list[Programs] = []

    def fill_folder(folder: Path) -> None:
        write_rest(model.folder, folder)
        programs = write_programs(folder)
        merger = _write_merger(hypernet, folder, traits.engine) if hypernet else None
        _manifest(model, folder, programs, traits, merger).save(folder)
        written.append(programs)

    write_folder_atomically(path, fill_folder, force)
    (programs,) = written
    return PipelineReport(
        path=path,
        parts=[
            PartReport(name, size_in_megabytes(path / name), error)
            for name, error in programs.errors.items()
        ],
        megabytes=size_in_megabytes(path),
        seconds=time.perf_counter() - started,
        notes=programs.notes,
    )


def _write_merger(hypernet: Hypernet, folder: Path, engine: FormatName) -> str:
    made = FORMATS[engine]
    export_hypernet(engine, hypernet, folder / made.merger, made.merger_dtype)
    return made.merger


def _manifest(
    model: OpenedModel, folder: Path, programs: Programs, traits: Traits, merger: str | None
) -> PipelineManifest:
    """Describe a filled folder, with the hash of every file."""
    unet, vae = model.config("unet"), model.config("vae")
    encoders = {name: model.config(name) for name in ENCODER_CLASSES}
    base = base_of(
        {
            name: shape
            for stage in programs.stages["unet"]
            for name, shape in stage.projections.items()
        }
    )
    assert base is not None  # slotted_projections has refused all others
    return PipelineManifest(
        engine=traits.engine,
        quantize=traits.quantize,
        slot_dtype=traits.slot_dtype,
        side=traits.side,
        pairs=traits.pairs,
        base=base,
        identity=model.identity,
        rank=LARGEST_RANK,
        tokens=encoders["text_encoder"]["max_position_embeddings"],
        penultimate={
            name: f"hidden_states.{config['num_hidden_layers'] - 1}"
            for name, config in encoders.items()
        },
        zeros_for_empty=model.index.get("force_zeros_for_empty_prompt", True),
        channels=unet["in_channels"],
        pixels=pixels_per_latent(model),
        scaling=vae["scaling_factor"],
        parts=programs.stages,
        merger=merger,
        files=hash_files(folder),
    )


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
