"""What an exported pipeline looks like from outside: shared by `export/` and `runtime/`.

A folder with `lorarar.json`, this manifest, beside the files that it lists. Each part of the
pipeline (unet, text_encoder, text_encoder_2, vae_decoder, perhaps vae_encoder) is a list of
stages that run one after another. A stage takes tensors by name, of the part's inputs or of
earlier stages' outputs, and its projections' LoRA factors, named as in a canonical LoRA file. Where
projections take pairs, they have a content slot and a style slot, each with
coefficients for its columns.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from lorarar.artefacts.formats import FORMATS, FormatName
from lorarar.bases import Shape
from lorarar.errors import LorararError
from lorarar.files import sha256

PIPELINE_FORMAT = "lorarar.pipeline.2"
MANIFEST_NAME = "lorarar.json"
# diffusers' name of the embedding that a UNet takes which was distilled with its guidance (LCM).
GUIDANCE_INPUT = "timestep_cond"
# Of the inputs of a projection's content slot and style slot; a lone LoRA has the first.
SLOT_PREFIXES = ("", "style.")


@dataclass(frozen=True)
class Stage:
    """One program. inputs: name -> [dtype, shape] (null where dynamic), in the program's order;
    projections: whose factors follow, down then up for each, -> (out, in) of their weights."""

    file: str
    inputs: dict[str, tuple[str, list[int | None]]]
    outputs: list[str]
    projections: dict[str, Shape]

    @cached_property
    def lora_inputs(self) -> list[str]:
        """Name all that its projections' slots can take."""
        return [
            name
            for projection in self.projections
            for prefix in SLOT_PREFIXES
            for name in slot_inputs(projection, prefix)
        ]


@dataclass(frozen=True)
class PipelineManifest:
    """What a runtime must know of an exported folder.

    base: see `lorarar.bases`; identity: of the UNet's weights; slot_dtype: of LoRA factors; pairs:
    whether projections have both slots; rank: the largest; penultimate: the output of each text
    encoder that the UNet reads; scaling: of latents; side: of latents, in cells of `pixels` pixels;
    files: path -> [bytes, sha256].
    """

    engine: FormatName
    quantize: str
    base: str
    identity: str
    slot_dtype: str
    pairs: bool
    rank: int
    tokens: int
    penultimate: dict[str, str]
    zeros_for_empty: bool
    channels: int
    side: int
    pixels: int
    scaling: float
    parts: dict[str, list[Stage]]
    merger: str | None
    files: dict[str, tuple[int, str]]
    format: str = PIPELINE_FORMAT

    @cached_property
    def projections(self) -> dict[str, Shape]:
        """Map the UNet's attention projections, without "unet.", to their shapes (out, in)."""
        stages = self.parts["unet"]
        return {name: shape for stage in stages for name, shape in stage.projections.items()}

    def save(self, folder: Path) -> None:
        """Write the manifest into the folder that it describes."""
        fields = asdict(self)
        for stages in fields["parts"].values():
            for stage in stages:
                stage["layers"] = stage.pop("projections")  # their name in the file
        (folder / MANIFEST_NAME).write_text(json.dumps(fields, indent=1))


def slot_inputs(projection: str, slot_prefix: str = "") -> tuple[str, str, str]:
    """Name a slot's down (rank, in), up (out, rank) and coefficients m, (in) or (1) float32.

    projection: without "unet."; m only where projections take pairs.
    """
    prefix = f"unet.{projection}.{slot_prefix}"
    return f"{prefix}lora_A.weight", f"{prefix}lora_B.weight", f"{prefix}m"


def hash_files(folder: Path) -> dict[str, tuple[int, str]]:
    """Map every file below `folder` to its size and SHA-256."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, sha256(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST_NAME
    }


def read_manifest(folder: Path) -> PipelineManifest:
    """Read a folder's manifest.

    Raises LorararError if there is none, if it is damaged, or of a format unknown here.
    """
    path = folder / MANIFEST_NAME
    try:
        fields = json.loads(path.read_bytes())
        if fields.get("format") == PIPELINE_FORMAT:
            return _parse(fields)
        reason = f"format {fields.get('format')}, but this version reads {PIPELINE_FORMAT}"
    except OSError as error:
        reason = f"no exported pipeline ({error.strerror})"
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"damaged ({error!r})"
    raise LorararError(f"{path}: {reason}; export the model again with this version")


def _parse(fields: dict[str, Any]) -> PipelineManifest:
    parts = {
        part: [
            Stage(
                file=_inside(stage["file"]),
                inputs={name: (of, shape) for name, (of, shape) in stage["inputs"].items()},
                outputs=list(stage["outputs"]),
                projections={
                    name: (int(out), int(width)) for name, (out, width) in stage["layers"].items()
                },
            )
            for stage in stages
        ]
        for part, stages in fields["parts"].items()
    }
    if fields["engine"] not in FORMATS:
        raise ValueError(f"engine '{fields['engine']}' is none of {', '.join(FORMATS)}")
    files = {_inside(name): (int(size), str(sha)) for name, (size, sha) in fields["files"].items()}
    return PipelineManifest(**fields | {"parts": parts, "files": files})


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"'{name}' is outside the folder")
    return name


def check_files(folder: Path, pipeline: PipelineManifest, hashes: bool = True) -> None:
    """Raise LorararError unless every listed file is there, of its size and with its hash."""
    checks: list[tuple[str, Callable[[Path], object], int]] = [
        ("size", lambda path: path.stat().st_size, 0)
    ]
    if hashes:
        checks.append(("SHA-256", sha256, 1))
    for name, wanted in pipeline.files.items():
        path = folder / name
        if not path.is_file():
            raise LorararError(f"{path}: is missing; export the model again")
        for what, measure, index in checks:
            if measure(path) != wanted[index]:
                raise LorararError(
                    f"{path}: its {what} is not what {MANIFEST_NAME} says, so it is damaged; "
                    "export the model again"
                )
