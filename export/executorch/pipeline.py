"""Export a whole pipeline to ExecuTorch: the UNet in stages with LoRA slots, a .pte for each.

A stage's weights are read just before it is lowered and dropped after it, so that memory stays
near the largest stage. The batch is 1: guidance runs the UNet twice. The latents' side is fixed.
"""

import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from executorch.runtime import Runtime
from rich.progress import Progress
from torch import Tensor, nn

from lorarar.artefacts.formats import FORMATS
from lorarar.artefacts.pipeline import Stage
from lorarar.errors import LorararError
from lorarar.export.choices import choose
from lorarar.export.executorch.lower import (
    DELEGATES,
    RUNS_HERE,
    Delegate,
    Width,
    attend,
    lower,
)
from lorarar.export.factors import factor_names
from lorarar.export.folder import (
    PartReport,
    PipelineReport,
    WriteMerger,
    check_disk,
    copy_rest,
    write_manifest,
)
from lorarar.export.parts import BUILDERS, Model, Part, random_inputs, unet_part
from lorarar.export.report import console, size_in_megabytes
from lorarar.export.stages import stages_of
from lorarar.files import refuse_existing, write_folder_atomically
from lorarar.parallel import cores
from lorarar.runtime.backends.executorch import seal, use_threads

Values = dict[str, Tensor]

# Relative errors that fail an export, of one call with random inputs and factors: they find what
# is broken, not what is coarse.
TOLERANCES: dict[Width, float] = {"none": 1e-3, "int8": 2e-1, "int4": 5e-1}


@dataclass(frozen=True)
class Trial:
    """One call of a part: its values by name, by torch in float32 and by what was written."""

    wanted: Values
    found: Values
    factors: Values

    def error(self, name: str) -> float:
        """The relative error of a value."""
        wanted = self.wanted[name]
        return float(torch.linalg.norm(self.found[name] - wanted) / torch.linalg.norm(wanted))


def export_pipeline(
    model: Model,
    path: Path,
    quantize: Width = "int8",
    *,
    force: bool = False,
    write_merger: WriteMerger | None = None,
    delegate: Delegate = RUNS_HERE,
    side: int = 0,
) -> PipelineReport:
    """Write a folder that `lorarar.runtime` loads.

    quantize: "none", "int8" or "int4", of linear layers; text encoders never have fewer than 8
    bits, the VAE's decoder has float32. write_merger: adds the exported hypernetwork to the
    folder. side: of latents, the model's own if 0.

    Raises LorararError if the path exists (without `force`), if there is not enough room, if
    weights are missing or misshapen, if the delegate cannot be had here, or if a part differs
    too much from torch.
    """
    started = time.perf_counter()
    refuse_existing(path, force)
    _check(quantize, delegate)
    use_threads(cores())
    with torch.device("meta"), torch.no_grad():
        unet = unet_part(model, 1, side)
        parts = {"unet": stages_of(unet, attend)}
        for name in ("text_encoder", "text_encoder_2", "vae_decoder"):
            parts[name] = [BUILDERS[name](model, 1, side)]
    check_disk(path, sum(_bytes(part, _width(part, quantize)) for part in chain(*parts.values())))
    reports: list[PartReport] = []

    def fill_folder(folder: Path) -> None:
        copy_rest(model, folder)
        written = {}
        for name, stages in parts.items():
            (folder / name).mkdir()
            whole = unet if name == "unet" else stages[0]
            written[name], error = _write(
                whole, stages, model, folder, quantize=quantize, delegate=delegate
            )
            reports.append(PartReport(name, size_in_megabytes(folder / name), error))
        if write_merger:
            write_merger(folder)
        write_manifest(
            model,
            folder,
            written,
            engine="executorch",
            quantize=quantize,
            slot_dtype="float32",
            side=unet.inputs["sample"].shape[-1],
            merger=FORMATS["executorch"].merger if write_merger else None,
        )

    write_folder_atomically(path, fill_folder, force)
    notes = [] if delegate == RUNS_HERE else [f"{delegate}: produced, not run on this machine"]
    seconds = time.perf_counter() - started
    return PipelineReport(path, reports, size_in_megabytes(path), seconds, notes)


def _check(quantize: Width, delegate: str) -> None:
    if delegate == "qnn":
        raise LorararError(
            "--delegate qnn: lowers with Qualcomm's SDK, for one chip at a time, and the "
            f"executorch wheel holds none; use one of {', '.join(DELEGATES)}"
        )
    choose("--delegate", delegate, DELEGATES, "ExecuTorch")
    widths: list[Width] = [*TOLERANCES] if delegate == RUNS_HERE else ["none"]
    choose("--quantize", quantize, widths, f"ExecuTorch's {delegate}")


def _width(part: Part, quantize: Width) -> Width:
    if part.name == "vae_decoder":
        return "none"
    return "int8" if quantize != "none" and part.name.startswith("text_encoder") else quantize


def _bytes(part: Part, width: Width) -> int:
    """At most."""
    quantised = sum(
        layer.weight.numel()
        for layer in part.module.modules()
        if width != "none" and isinstance(layer, nn.Linear | nn.Conv2d)
    )
    return 4 * sum(weight.numel() for weight in part.module.parameters()) - 3 * quantised


def _write(
    whole: Part,
    stages: list[Part],
    model: Model,
    folder: Path,
    *,
    quantize: Width,
    delegate: Delegate,
) -> tuple[list[Stage], float | None]:
    """Lower a part's stages one by one, and run each on what the earlier ones gave.

    Returns the error of the part's first output, None if the delegate does not run here. Raises
    LorararError if it is more than the tolerance.
    """
    inputs, factors = random_inputs(whole, model)
    trial = Trial(dict(inputs), dict(inputs), factors)
    width = _width(whole, quantize)
    written = []
    with Progress(console=console, transient=True) as progress, torch.no_grad():
        task = progress.add_task(whole.name, total=len(stages))
        for part in stages:
            progress.update(task, description=f"{part.name}: lowering")
            program = _lower_and_try(part, width, delegate, trial)
            file = f"{whole.name}/{part.name.removeprefix('unet.')}.pte"
            (folder / file).write_bytes(seal(program))
            written.append(_stage(part, file))
            progress.advance(task)
    if delegate != RUNS_HERE:
        return written, None
    error = trial.error(whole.outputs[0])
    if not error < TOLERANCES[width]:
        raise LorararError(
            f"{whole.name}: differs from torch by {error:.1e}, more than "
            f"{TOLERANCES[width]:.0e} for --quantize {quantize}; nothing was written"
        )
    return written, error


def _lower_and_try(part: Part, width: Width, delegate: Delegate, trial: Trial) -> bytes:
    part = part.loaded()
    if delegate == RUNS_HERE:
        trial.wanted.update(part.run(trial.wanted | trial.factors))
    program = lower(part, width, delegate)
    if delegate == RUNS_HERE:
        inputs = [trial.found[name] for name in part.inputs]
        factors = [trial.factors[name] for name in factor_names(part.slots)]
        loaded = Runtime.get().load_program(program)  # a method alone does not keep it alive
        method: Any = loaded.load_method("forward")
        trial.found.update(zip(part.outputs, method.execute(inputs + factors), strict=True))
    return program


def _stage(part: Part, file: str) -> Stage:
    inputs: dict[str, tuple[str, list[int | None]]] = {
        name: (str(tensor.dtype).removeprefix("torch."), list(tensor.shape))
        for name, tensor in part.inputs.items()
    }
    return Stage(file, inputs, part.outputs, part.slots)
