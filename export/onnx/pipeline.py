"""Export a whole pipeline to ONNX, its UNet quantised and with LoRA slots, as optimum loads it.

The graphs are traced without weights; each weight is read, quantised and written by itself, so
that SDXL's UNet needs little memory. In 8 and 4 bits linear layers are MatMulNBits, which ONNX
Runtime multiplies without widening the weights first, on CPUs, WebGPU and CUDA; convolutions, and
in 8 bits narrow linear layers, are int8 behind DequantizeLinear, which every execution provider
knows, and which `lorarar.runtime` has computed once when it opens a graph, so that no step widens
weights; SDXL's convolutions then take 1.3 GB of memory in place of 0.3. All compute is in float32.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import get_args

import numpy as np
import onnx_ir as ir
import torch
from rich.progress import Progress
from torch._subclasses.fake_tensor import FakeTensorMode

from lorarar import embedded
from lorarar.artefacts.formats import OnnxQuantize
from lorarar.artefacts.pipeline import Stage
from lorarar.command import console
from lorarar.errors import LorararError
from lorarar.export.choices import one_of
from lorarar.export.folder import PipelineReport, Programs, Traits, write_pipeline
from lorarar.export.onnx.graph import fill, trace, write
from lorarar.export.onnx.pair_slots import add_style_slots
from lorarar.export.onnx.sensitivity import WIDER, choose_wider_layers
from lorarar.export.onnx.stored import StoredAs, store
from lorarar.export.parts import (
    PART_NAMES,
    OpenedModel,
    Part,
    build_part,
    exported_config,
    random_inputs,
)
from lorarar.export.tolerances import ONNX_PART
from lorarar.files import refuse_existing
from lorarar.hypernet import Hypernet
from lorarar.parallel import WORTH_A_THREAD, cores
from lorarar.runtime.backends import onnxruntime

CHECKED = 500e6  # parameters; what is larger is not run in torch at export
CHECKED_SIDE = 16  # of the latents


@dataclass(frozen=True)
class Draft:
    """A traced part and the bytes its weights will take."""

    part: Part
    model: ir.Model
    bytes: int


def export_pipeline(
    model: OpenedModel,
    path: Path,
    quantize: OnnxQuantize = "int8",
    *,
    hypernet: Hypernet | None = None,
    force: bool = False,
    psnr: float | None = None,
) -> PipelineReport:
    """Write a folder that optimum's ORTStableDiffusionXLPipeline and `lorarar.runtime` load.

    quantize: "none", "fp16" (weights stored as such), "int8" or "int4"; text encoders never have
    fewer than 8 bits, the VAE never fewer than 16. hypernet: is exported into the folder, too.
    psnr: with int8 and int4, see `sensitivity.choose_wider_layers`.

    Raises LorararError if the path exists (without `force`), if there is not enough room, if
    weights are missing or misshapen, or if a part differs too much from torch.
    """
    started = time.perf_counter()
    refuse_existing(path, force)
    one_of("--quantize", quantize, get_args(OnnxQuantize), "ONNX")
    wider: dict[str, StoredAs] = {}
    if psnr is not None:
        if quantize not in WIDER:
            known = ", ".join(WIDER)
            raise LorararError(f"--psnr {psnr:g}: widens layers of --quantize {known} only")
        wider = choose_wider_layers(model, quantize, psnr, embedded.PROMPTS)
    drafts = [_draft(model, name, quantize, wider) for name in PART_NAMES]

    def write_programs(folder: Path) -> Programs:
        errors = {}
        for draft in drafts:
            name = draft.part.name
            config = "vae" if name.startswith("vae") else name
            _write(draft, folder / name)
            described = json.dumps(exported_config(model, config), indent=2)
            (folder / name / "config.json").write_text(described)
            errors[name] = _error(draft.part, model, folder / name, quantize)
        stages = {draft.part.name: [_stage(draft.part)] for draft in drafts}
        return Programs(stages=stages, errors=errors)

    return write_pipeline(
        model,
        path,
        write_programs,
        Traits(
            engine="onnx",
            quantize=quantize,
            slot_dtype=_factor_dtype(drafts[0].part, quantize),
            side=drafts[0].part.inputs["sample"].shape[-1],
            pairs=True,
        ),
        hypernet=hypernet,
        force=force,
        needed=sum(draft.bytes for draft in drafts),
        started=started,
    )


def _width(name: str, quantize: OnnxQuantize) -> StoredAs:
    """How a part's weights are stored: encoders in 8 bits at least, the VAE in 16."""
    if quantize == "none":
        return "fp32"
    if name == "unet":
        return quantize
    if name.startswith("vae"):
        return "fp16"
    return "int8" if quantize == "int4" else quantize


def _factor_dtype(part: Part, quantize: OnnxQuantize) -> str:
    """float16 as most LoRAs' files, but float32 for narrow layers, where casting takes a step
    longer than reading twice as much."""
    widest = max((max(shape) for shape in part.projections.values()), default=0)
    return "float32" if quantize == "none" or widest < WORTH_A_THREAD else "float16"


def _draft(
    model: OpenedModel, name: str, quantize: OnnxQuantize, wider: Mapping[str, StoredAs]
) -> Draft:
    width = _width(name, quantize)
    with FakeTensorMode(allow_non_fake_inputs=True), console.status(f"{name}: tracing"):
        part = build_part(name, model)
        core = part.module.get_submodule(part.core)
        recipe = store(core, lambda layer: wider.get(layer, width), part.weights)
        traced = trace(part, getattr(torch, _factor_dtype(part, quantize)))
    recipe = {part.prefix + key: make for key, make in recipe.items()} | part.constants
    size = fill(traced, recipe, model.folder / name)
    add_style_slots(traced, part.projections)
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
    return Stage(f"{part.name}/model.onnx", inputs, part.outputs, part.projections)


def _error(part: Part, model: OpenedModel, folder: Path, quantize: OnnxQuantize) -> float | None:
    """Run what was written beside torch, with random inputs and factors; None if it is too large.

    Raises LorararError if they differ by more than the tolerance.
    """
    if sum(prod(weight.shape) for weight in part.weights.values()) > CHECKED:
        return None
    real = build_part(part.name, model, 1, CHECKED_SIDE)
    inputs, factors = random_inputs(real, model)
    with torch.no_grad():
        real.load()
        wanted = real.run(inputs | factors)[part.outputs[0]].numpy()
    dtype = _factor_dtype(part, quantize)
    feeds = {name: tensor.numpy() for name, tensor in inputs.items()}
    feeds |= {name: factor.numpy().astype(dtype) for name, factor in factors.items()}
    run = onnxruntime.open_stage(folder / "model.onnx", _stage(part), cores())
    found = run(feeds)[part.outputs[0]]
    error = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
    if not error < ONNX_PART[quantize]:
        raise LorararError(
            f"{folder.name}: differs from torch by {error:.1e}, more than "
            f"{ONNX_PART[quantize]:.0e} for --quantize {quantize}; nothing was written"
        )
    return error
