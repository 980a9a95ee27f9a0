"""Export a whole pipeline to ExecuTorch: the UNet in stages with LoRA slots, a .pte for each.

A stage's weights are read just before it is lowered and dropped after it, so that memory stays
near the largest stage. The batch is 1: guidance runs the UNet twice. The latents' side is fixed.
"""

import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import torch
from executorch.runtime import Runtime
from rich.progress import Progress
from torch import Tensor, nn

from lorarar.artefacts.formats import ExecutorchQuantize
from lorarar.artefacts.pipeline import Stage
from lorarar.command import console
from lorarar.errors import LorararError
from lorarar.export.choices import one_of
from lorarar.export.executorch.lower import RUNS_HERE, Delegate, attend, choose_delegate, lower
from lorarar.export.factors import factor_names
from lorarar.export.folder import PipelineReport, Programs, Traits, write_pipeline
from lorarar.export.parts import OpenedModel, Part, build_part, random_inputs, unet_part
from lorarar.export.stages import stages_of
from lorarar.export.tolerances import EXECUTORCH_PART
from lorarar.files import refuse_existing
from lorarar.hypernet import Hypernet
from lorarar.parallel import cores
from lorarar.runtime.backends.executorch import seal, use_threads

Values = dict[str, Tensor]


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
    model: OpenedModel,
    path: Path,
    quantize: ExecutorchQuantize = "int8",
    *,
    hypernet: Hypernet | None = None,
    force: bool = False,
    delegate: Delegate = RUNS_HERE,
    side: int = 0,
) -> PipelineReport:
    """Write a folder that `lorarar.runtime` loads.

    quantize: "none", "int8" or "int4", of linear layers; text encoders never have fewer than 8
    bits, the VAE's decoder has float32. hypernet: is exported into the folder, too. side: of
    latents, the model's own if 0.

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
            parts[name] = [build_part(name, model, 1, side)]

    def write_programs(folder: Path) -> Programs:
        written, errors = {}, {}
        for name, stages in parts.items():
            (folder / name).mkdir()
            whole = unet if name == "unet" else stages[0]
            written[name], errors[name] = _write(
                whole, stages, model, folder, quantize=quantize, delegate=delegate
            )
        notes = [] if delegate == RUNS_HERE else [f"{delegate}: produced, not run on this machine"]
        return Programs(stages=written, errors=errors, notes=notes)

    return write_pipeline(
        model,
        path,
        write_programs,
        Traits(
            engine="executorch",
            quantize=quantize,
            slot_dtype="float32",
            side=unet.inputs["sample"].shape[-1],
        ),
        hypernet=hypernet,
        force=force,
        needed=sum(_bytes(part, _width(part, quantize)) for part in chain(*parts.values())),
        started=started,
    )


def _check(quantize: ExecutorchQuantize, delegate: Delegate) -> None:
    choose_delegate(delegate)
    widths = get_args(ExecutorchQuantize) if delegate == RUNS_HERE else ("none",)
    one_of("--quantize", quantize, widths, f"ExecuTorch's {delegate}")


def _width(part: Part, quantize: ExecutorchQuantize) -> ExecutorchQuantize:
    if part.name == "vae_decoder":
        return "none"
    return "int8" if quantize != "none" and part.name.startswith("text_encoder") else quantize


def _bytes(part: Part, width: ExecutorchQuantize) -> int:
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
    model: OpenedModel,
    folder: Path,
    *,
    quantize: ExecutorchQuantize,
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
    if not error < EXECUTORCH_PART[width]:
        raise LorararError(
            f"{whole.name}: differs from torch by {error:.1e}, more than "
            f"{EXECUTORCH_PART[width]:.0e} for --quantize {quantize}; nothing was written"
        )
    return written, error


def _lower_and_try(
    part: Part, width: ExecutorchQuantize, delegate: Delegate, trial: Trial
) -> bytes:
    part = part.loaded()
    if delegate == RUNS_HERE:
        trial.wanted.update(part.run(trial.wanted | trial.factors))
    program = lower(part, width, delegate)
    if delegate == RUNS_HERE:
        inputs = [trial.found[name] for name in part.inputs]
        factors = [trial.factors[name] for name in factor_names(part.projections)]
        loaded = Runtime.get().load_program(program)  # a method alone does not keep it alive
        method: Any = loaded.load_method("forward")
        trial.found.update(zip(part.outputs, method.execute(inputs + factors), strict=True))
    return program


def _stage(part: Part, file: str) -> Stage:
    inputs: dict[str, tuple[str, list[int | None]]] = {
        name: (str(tensor.dtype).removeprefix("torch."), list(tensor.shape))
        for name, tensor in part.inputs.items()
    }
    return Stage(file, inputs, part.outputs, part.projections)
