"""Export a whole pipeline to ONNX, its UNet quantised and with LoRA slots, as optimum loads it.

The graphs are traced without weights; each weight is read, quantised and written by itself, so
that SDXL's UNet needs little memory. In 8 and 4 bits linear layers are MatMulNBits, which ONNX
Runtime multiplies without widening the weights first, on CPUs, WebGPU and CUDA; convolutions are
int8 behind DequantizeLinear, which every execution provider knows. All compute is in float32.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnx_ir as ir
import torch
from rich.progress import Progress
from torch._subclasses.fake_tensor import FakeTensorMode

from lorarar.artefacts.formats import FORMATS
from lorarar.artefacts.pipeline import Stage
from lorarar.errors import LorararError
from lorarar.export.choices import choose
from lorarar.export.folder import (
    PartReport,
    PipelineReport,
    WriteMerger,
    check_disk,
    copy_rest,
    write_manifest,
)
from lorarar.export.onnx.graph import fill, trace, write
from lorarar.export.onnx.pair_slots import add_style_slots
from lorarar.export.onnx.sensitivity import WIDER, choose_wider_layers
from lorarar.export.onnx.stored import Width, store
from lorarar.export.parts import BUILDERS, Model, Part, random_inputs
from lorarar.export.report import console, size_in_megabytes
from lorarar.files import refuse_existing, write_folder_atomically
from lorarar.parallel import cores
from lorarar.runtime.backends import onnxruntime

Quantize = Literal["none", "fp16", "int8", "int4"]
# Relative errors that fail an export, of one call with random inputs and factors.
TOLERANCES: dict[Quantize, float] = {"none": 1e-4, "fp16": 1e-3, "int8": 1e-1, "int4": 5e-1}
CHECKED = 500e6  # parameters; what is larger is not run in torch at export
CHECKED_SIDE = 16  # of the latents


@dataclass(frozen=True)
class Draft:
    """A traced part and the bytes its weights will take."""

    part: Part
    model: ir.Model
    bytes: int


def export_pipeline(
    model: Model,
    path: Path,
    quantize: Quantize = "int8",
    *,
    force: bool = False,
    write_merger: WriteMerger | None = None,
    psnr: float | None = None,
) -> PipelineReport:
    """Write a folder that optimum's ORTStableDiffusionXLPipeline and `lorarar.runtime` load.

    quantize: "none", "fp16" (weights stored as such), "int8" or "int4"; text encoders never have
    fewer than 8 bits, the VAE never fewer than 16. write_merger: adds the exported hypernetwork
    to the folder. psnr: with int8 and int4, see `sensitivity.choose_wider_layers`.

    Raises LorararError if the path exists (without `force`), if there is not enough room, if
    weights are missing or misshapen, or if a part differs too much from torch.
    """
    started = time.perf_counter()
    refuse_existing(path, force)
    choose("--quantize", quantize, get_args(Quantize), "ONNX")
    wider: dict[str, Width] = {}
    if psnr is not None:
        if quantize not in WIDER:
            known = ", ".join(WIDER)
            raise LorararError(f"--psnr {psnr:g}: widens layers of --quantize {known} only")
        wider = choose_wider_layers(model, psnr, quantize)
    drafts = [_draft(model, name, quantize, wider) for name in BUILDERS]
    check_disk(path, sum(draft.bytes for draft in drafts))
    reports: list[PartReport] = []

    def fill_folder(folder: Path) -> None:
        copy_rest(model, folder)
        for draft in drafts:
            name = draft.part.name
            config = "vae" if name.startswith("vae") else name
            _write(draft, folder / name)
            shutil.copyfile(model.folder / config / "config.json", folder / name / "config.json")
            reports.append(_report(draft.part, model, folder / name, quantize))
        if write_merger:
            write_merger(folder)
        unet = drafts[0].part
        write_manifest(
            model,
            folder,
            {draft.part.name: [_stage(draft.part)] for draft in drafts},
            engine="onnx",
            quantize=quantize,
            slot_dtype="float32" if quantize == "none" else "float16",
            pairs=True,
            side=unet.inputs["sample"].shape[-1],
            merger=FORMATS["onnx"].merger if write_merger else None,
        )

    write_folder_atomically(path, fill_folder, force)
    seconds = time.perf_counter() - started
    return PipelineReport(path, reports, size_in_megabytes(path), seconds, [])


def _width(name: str, quantize: Quantize) -> Width:
    """How a part's weights are stored: encoders in 8 bits at least, the VAE in 16."""
    if quantize == "none":
        return "fp32"
    if name == "unet":
        return quantize
    if name.startswith("vae"):
        return "fp16"
    return "int8" if quantize == "int4" else quantize


def _draft(model: Model, name: str, quantize: Quantize, wider: Mapping[str, Width]) -> Draft:
    width = _width(name, quantize)
    factor_dtype = torch.float32 if quantize == "none" else torch.float16
    with FakeTensorMode(allow_non_fake_inputs=True), console.status(f"{name}: tracing"):
        part = BUILDERS[name](model)
        core = part.module.get_submodule(part.core)
        recipe = store(core, lambda layer: wider.get(layer, width), part.weights)
        traced = trace(part, factor_dtype)
    recipe = {part.prefix + key: make for key, make in recipe.items()} | part.constants
    size = fill(traced, recipe, model.folder / name)
    add_style_slots(traced, part.slots)
    return Draft(part, traced, size)


def _write(draft: Draft, folder: Path) -> None:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"{draft.part.name}: writing", total=draft.bytes)
        write(draft.model, folder, lambda tensor, _: progress.advance(task, tensor.nbytes))


def _stage(part: Part) -> Stage:
    inputs = {
        name: (
            str(tensor.dtype).removeprefix("torch."),
            [None if axis in part.axes[name] else size for axis, size in enumerate(tensor.shape)],
        )
        for name, tensor in part.inputs.items()
    }
    return Stage(f"{part.name}/model.onnx", inputs, part.outputs, part.slots)


def _report(part: Part, model: Model, folder: Path, quantize: Quantize) -> PartReport:
    """Run what was written beside torch, with random inputs and factors, unless it is too large.

    Raises LorararError if they differ by more than the tolerance.
    """
    megabytes = size_in_megabytes(folder)
    if sum(prod(weight.shape) for weight in part.weights.values()) > CHECKED:
        return PartReport(part.name, megabytes, None)
    real = BUILDERS[part.name](model, 1, CHECKED_SIDE)
    inputs, factors = random_inputs(real, model)
    with torch.no_grad():
        real.load()
        wanted = real.run(inputs | factors)[part.outputs[0]].numpy()
    dtype = np.float32 if quantize == "none" else np.float16
    feeds = {name: tensor.numpy() for name, tensor in inputs.items()}
    feeds |= {name: factor.numpy().astype(dtype) for name, factor in factors.items()}
    run = onnxruntime.open_stage(folder / "model.onnx", _stage(part), cores())
    found = run(feeds)[part.outputs[0]]
    error = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
    if not error < TOLERANCES[quantize]:
        raise LorararError(
            f"{folder.name}: differs from torch by {error:.1e}, more than "
            f"{TOLERANCES[quantize]:.0e} for --quantize {quantize}; nothing was written"
        )
    return PartReport(part.name, megabytes, error)
