"""Export a whole pipeline to Core ML, one .mlpackage per part, for iOS 18 / macOS 15 or later.

A UNet too large for one package is cut into stages, a package for each. A package's weights are
read just before it is converted and dropped after it.

The UNet takes LoRA factors as float16 inputs of any rank up to LARGEST_RANK; zeros of rank 1 are no
LoRA. Core ML allows no dots in names, so they become two underscores, which no canonical name has
(`coreml.check.feature_name`); the manifest keeps the canonical names.

UNet and text encoders compute in float16, but for the sinusoids of times and sizes, whose arguments
reach thousands. The VAE computes in float32, as SDXL's own overflows in float16. Nothing is run, as
Core ML predicts on macOS only: specs and stored weights are checked here, answers by
`export/check_coreml.py`.
"""

import gc
import time
from math import sqrt
from pathlib import Path
from typing import get_args

import torch

from lorarar.artefacts.formats import CoremlQuantize
from lorarar.artefacts.pipeline import Stage
from lorarar.command import console
from lorarar.errors import LorararError
from lorarar.export.choices import one_of
from lorarar.export.coreml.check import (
    NOT_RUN,
    WEIGHTS,
    Compute,
    check_spec,
    feature_name,
    inputs_of,
    is_large,
    weight_errors,
)
from lorarar.export.coreml.convert import WEIGHT_BITS, convert, save
from lorarar.export.folder import PipelineReport, Programs, Traits, write_pipeline
from lorarar.export.parts import ENCODER_CLASSES, OpenedModel, Part, build_part
from lorarar.export.stages import stages_of
from lorarar.export.tolerances import COREML_WEIGHTS
from lorarar.files import refuse_existing
from lorarar.hypernet import Hypernet
from lorarar.quiet import without_bars

PARTS = ("unet", "text_encoder", "text_encoder_2", "vae_decoder")
ENCODER_QUANTIZE: dict[CoremlQuantize, CoremlQuantize] = {
    "fp16": "fp16",
    "int8": "int8",
    "palette6": "int8",
    "palette4": "int8",
}
# Parameters of the largest UNet that is one package. While it converts, coremltools holds a package
# about four times in float16: 6 GB for KOALA-700M, 20 GB for SDXL, whose stages take 4 GB.
LARGEST_PACKAGE = 1_000_000_000


def export_pipeline(
    model: OpenedModel,
    path: Path,
    quantize: CoremlQuantize = "fp16",
    *,
    hypernet: Hypernet | None = None,
    force: bool = False,
    side: int = 0,
) -> PipelineReport:
    """Write a folder that `lorarar.runtime` loads on macOS, for a batch of 1 and one size.

    quantize: of the UNet's weights, "fp16", "int8" (a scale per channel), "palette6" or "palette4"
    (k-means, a table per weight); text encoders have 16 bits with the first, else 8, the VAE 16.
    hypernet: is exported into the folder, too. side: of the latents, the model's own if 0. While
    converting, memory holds the largest package about four times in float16.

    Raises LorararError if the path exists (without `force`), if there is not enough room, if
    weights are missing or misshapen, if the side cannot be, or if a package's spec, size or
    weights are not as wanted.
    """
    started = time.perf_counter()
    refuse_existing(path, force)
    one_of("--quantize", quantize, get_args(CoremlQuantize), "Core ML")
    factor = 2 ** (len(model.config("unet")["block_out_channels"]) - 1)
    if side % factor:
        raise LorararError(f"--side {side}: this UNet's latents need a multiple of {factor}")
    parts = _outlines(model, side)
    widths: dict[str, CoremlQuantize] = {"unet": quantize, "vae_decoder": "fp16"}
    widths |= dict.fromkeys(ENCODER_CLASSES, ENCODER_QUANTIZE[quantize])
    expected = [
        sum(_expected(part, widths[name])) for name, stages in parts.items() for part in stages
    ]

    def write_programs(folder: Path) -> Programs:
        found = [_write(name, stages, folder, widths[name]) for name, stages in parts.items()]
        return Programs(
            stages={name: [_stage(part) for part in stages] for name, stages in parts.items()},
            errors=dict.fromkeys(parts),
            notes=[f"Core ML: {NOT_RUN}", *found],
        )

    return write_pipeline(
        model,
        path,
        write_programs,
        Traits(
            engine="coreml",
            quantize=quantize,
            slot_dtype="float16",
            side=parts["unet"][0].inputs["sample"].shape[-1],
        ),
        hypernet=hypernet,
        force=force,
        needed=sum(expected),
        started=started,
    )


def _outlines(model: OpenedModel, side: int) -> dict[str, list[Part]]:
    """Each part's stages, one but for a large UNet's, without weights."""
    with torch.device("meta"), torch.no_grad():
        parts = {name: [build_part(name, model, 1, side)] for name in PARTS}
        (unet,) = parts["unet"]
        if sum(weight.numel() for weight in unet.module.parameters()) > LARGEST_PACKAGE:
            parts["unet"] = stages_of(unet)
    return parts


def _write(name: str, stages: list[Part], folder: Path, width: CoremlQuantize) -> str:
    """Write a part's stages one after another; returns a note on what was found."""
    found = [
        _write_package(part, folder, width, f"{part.name} ({index} of {len(stages)})")
        for index, part in enumerate(stages, start=1)
    ]
    packages = f" in {len(stages)} packages" if len(stages) > 1 else ""
    error = max(error for error, _ in found)
    kinds = sorted(set().union(*(kinds for _, kinds in found)))
    return f"{name}{packages}: weights' error {error:.1e}; operations {', '.join(kinds)}"


def _write_package(
    part: Part, folder: Path, width: CoremlQuantize, count: str
) -> tuple[float, set[str]]:
    """Convert, compress and check a stage; returns its weights' error and kinds of operations."""
    gc.collect()  # coremltools' program of the stage before, which refers to itself
    package = folder / _file(part)
    compute: Compute = "float32" if part.name == "vae_decoder" else "float16"
    with console.status("") as status, torch.no_grad(), without_bars():
        status.update(f"{count}: converting")
        model, outputs = convert(part.loaded(), compute)
        status.update(f"{count}: storing as {width}")
        save(model, width, package)
    with console.status(f"{count}: checking"):
        kinds = check_spec(package, inputs_of(part), outputs, compute)
        return check_weights(part, package, width), kinds


def check_weights(part: Part, package: Path, width: CoremlQuantize) -> float:
    """Return the relative error of the weights stored.

    Raises LorararError if it is too large, if weights are missing, or if their file is too large.
    """
    errors = weight_errors(package, part.prefix, part.weights)
    lacking = sorted(
        name
        for name, parameter in part.module.get_submodule(part.core).named_parameters()
        if is_large(parameter)
        and name not in errors
        and "position_embedding" not in name  # rows already gathered by the conversion
    )
    if lacking:
        raise LorararError(f"{package}: lacks weights, such as {lacking[0]}; nothing was written")
    squares = sum(square for square, _ in errors.values())
    norms = sum(norm for _, norm in errors.values())
    error = sqrt(squares / norms) if norms else 0.0
    if not error < COREML_WEIGHTS[width]:
        raise LorararError(
            f"{package}: its weights have an error of {error:.1e}, too much for {width}; "
            "use more bits"
        )
    size, (large, small) = (package / WEIGHTS).stat().st_size, _expected(part, width)
    if not 0.9 * large < size < 1.1 * (large + small):  # scales of 1 and biases of 0 are left out
        raise LorararError(
            f"{package}: its weights have {size} bytes, not about {large + small}; "
            "nothing was written"
        )
    return error


def _expected(part: Part, width: CoremlQuantize) -> tuple[int, int]:
    """Bytes of a part's large weights, in `width`, and of all others, in float16."""
    weights = list(part.module.parameters())
    large = sum(weight.numel() for weight in weights if is_large(weight))
    small = sum(weight.numel() for weight in weights) - large
    return large * WEIGHT_BITS[width] // 8, small * 2


def _file(part: Part) -> str:
    name, _, stage = part.name.partition(".")
    return f"{name}/{stage or 'model'}.mlpackage"


def _stage(part: Part) -> Stage:
    features = inputs_of(part)
    inputs: dict[str, tuple[str, list[int | None]]] = {}
    for name in part.inputs:
        dtype, sizes = features[feature_name(name)]
        inputs[name] = dtype, [size for size, _ in sizes]
    return Stage(_file(part), inputs, part.outputs, part.projections)
