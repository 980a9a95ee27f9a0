"""Export a whole pipeline to Core ML, one .mlpackage per part, for iOS 18 / macOS 15 or later.

The UNet takes LoRA factors as float16 inputs of any rank from 1 to 512; zeros of rank 1 are no
LoRA. Core ML allows no dots in names, so they become two underscores, which no canonical name has
(`check_coreml.feature_name`); the manifest keeps the canonical names.

UNet and text encoders compute in float16, but for the sinusoids of times and sizes, whose arguments
reach thousands. The VAE computes in float32, as SDXL's own overflows in float16. Nothing is run, as
Core ML predicts on macOS only: specs and stored weights are checked here, answers by check_coreml.
"""

import time
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
from torch._subclasses.fake_tensor import FakeTensorMode

from lorarar.errors import LorararError
from lorarar.export.artefact import console, size_in_megabytes
from lorarar.export.check_coreml import (
    WEIGHTS,
    check_spec,
    inputs_of,
    is_large,
    weight_errors,
)
from lorarar.export.coreml_convert import BITS, compress, convert
from lorarar.export.folder import (
    PartReport,
    PipelineReport,
    WriteMerger,
    check_disk,
    copy_rest,
    write_manifest,
)
from lorarar.export.parts import BUILDERS, ENCODERS, Model, Part
from lorarar.export.to_coreml import NOT_RUN
from lorarar.files import refuse_existing, write_folder_atomically
from lorarar.pipeline_format import Stage

PARTS = ("unet", "text_encoder", "text_encoder_2", "vae_decoder")
ENCODER_WIDTHS = {"fp16": "fp16", "int8": "int8", "palette6": "int8", "palette4": "int8"}
# Relative errors of all large weights of a part that fail its export.
FLOORS = {"fp16": 1e-3, "int8": 3e-2, "palette6": 6e-2, "palette4": 2e-1}


def export_pipeline(
    model: Model,
    path: Path,
    quantize: str = "fp16",
    force: bool = False,
    write_merger: WriteMerger | None = None,
    side: int = 0,
) -> PipelineReport:
    """Write a folder that `lorarar.runtime` loads on macOS, for a batch of 1 and one size.

    quantize: of the UNet's weights, "fp16", "int8" (a scale per channel), "palette6" or "palette4"
    (k-means, a table per weight); text encoders have 16 bits with the first, else 8, the VAE 16.
    write_merger: adds the exported hypernetwork to the folder. side: of the latents, the model's
    own if 0. While converting, memory holds the largest part about four times in float16.

    Raises LorararError if the path exists (without `force`), if there is not enough room, if
    weights are missing or misshapen, if the side cannot be, or if a package's spec, size or
    weights are not as wanted.
    """
    started = time.perf_counter()
    refuse_existing(path, force)
    if quantize not in BITS:
        raise LorararError(f"--quantize {quantize}: unknown for Core ML; use {', '.join(BITS)}")
    factor = 2 ** (len(model.config("unet")["block_out_channels"]) - 1)
    if side % factor:
        raise LorararError(f"--side {side}: this UNet's latents need a multiple of {factor}")
    with FakeTensorMode(allow_non_fake_inputs=True):
        parts = [BUILDERS[name](model, 1, side) for name in PARTS]
    widths = {"unet": quantize, "vae_decoder": "fp16"}
    widths |= dict.fromkeys(ENCODERS, ENCODER_WIDTHS[quantize])
    check_disk(path, sum(_expected(part, widths[part.name]) for part in parts))
    reports: list[PartReport] = []
    notes = [f"Core ML: {NOT_RUN}"]

    def fill_folder(folder: Path) -> None:
        copy_rest(model, folder)
        for part in parts:
            package = folder / _file(part)
            make = partial(BUILDERS[part.name], model, 1, side)
            notes.append(_write(part, make, package, widths[part.name]))
            reports.append(PartReport(part.name, size_in_megabytes(package), None))
        if write_merger:
            write_merger(folder / "merger.mlpackage")
        write_manifest(
            model,
            folder,
            "coreml",
            quantize,
            {part.name: [_stage(part)] for part in parts},
            "float16",
            parts[0].inputs["sample"].shape[-1],
            "merger.mlpackage" if write_merger else None,
        )

    write_folder_atomically(path, fill_folder, force)
    seconds = time.perf_counter() - started
    return PipelineReport(path, reports, size_in_megabytes(path), seconds, notes)


def _write(outline: Part, make: Callable[[], Part], package: Path, width: str) -> str:
    """Convert a part, compress and check it; returns a note on what was found.

    outline: the part without weights, make: gives it with them.
    """
    count = f"{outline.name} ({PARTS.index(outline.name) + 1} of {len(PARTS)})"
    compute = "float32" if outline.name == "vae_decoder" else "float16"
    # coremltools shows dozens of bars of its own on stderr.
    with console.status("") as status, redirect_stderr(StringIO()):
        status.update(f"{count}: converting")
        model, outputs = convert(make(), compute)
        status.update(f"{count}: storing as {width}")
        compress(model, width).save(str(package))
    with console.status(f"{count}: checking"):
        kinds = check_spec(package, inputs_of(outline), outputs, compute)
        error = check_weights(outline, package, width)
    return f"{outline.name}: weights off by {error:.1e}; operations {', '.join(kinds)}"


def check_weights(part: Part, package: Path, width: str) -> float:
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
    squares, norms = np.sum([*errors.values()], 0)
    error = float(np.sqrt(squares / norms))
    if not error < FLOORS[width]:
        raise LorararError(
            f"{package}: its weights are off by {error:.1e}, too much for {width}; use more bits"
        )
    size, expected = (package / WEIGHTS).stat().st_size, _expected(part, width)
    if not 0.9 < size / expected < 1.1:
        raise LorararError(
            f"{package}: its weights have {size} bytes, not about {expected}; nothing was written"
        )
    return error


def _expected(part: Part, width: str) -> int:
    """Bytes of a part's weights: the large ones in `width`, all others in float16."""
    return sum(
        weight.numel() * (BITS[width] if is_large(weight) else 16) // 8
        for weight in part.module.parameters()
    )


def _file(part: Part) -> str:
    return f"{part.name}/model.mlpackage"


def _stage(part: Part) -> Stage:
    features = inputs_of(part)
    inputs: dict[str, tuple[str, list[int | None]]] = {}
    for name in part.inputs:
        dtype, sizes = features[name]
        inputs[name] = dtype, [size for size, _ in sizes]
    return Stage(_file(part), inputs, part.outputs, part.slots)
