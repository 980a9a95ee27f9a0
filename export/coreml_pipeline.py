"""Export a whole pipeline to Core ML, one .mlpackage per part, for iOS 18 / macOS 15 or later.

The UNet takes LoRA factors as float16 inputs of any rank from 1 to 512; zeros of rank 1 are no
LoRA. Core ML allows no dots in names, so they become two underscores, which no canonical name has
(`check_coreml.feature_name`); the manifest keeps the canonical names.

UNet and text encoders compute in float16, but for the sinusoids of times and sizes, whose arguments
reach thousands. The VAE computes in float32, as SDXL's own overflows in float16. Nothing is run, as
Core ML predicts on macOS only: specs and stored weights are checked here, answers by check_coreml.
"""

import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import torch
from coremltools.converters.mil.mil import Builder, Program, types
from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
from coremltools.converters.mil.mil.passes.pass_registry import register_pass
from torch._subclasses.fake_tensor import FakeTensorMode

from lorarar.errors import LorararError
from lorarar.export.artefact import console, size_in_megabytes
from lorarar.export.check_coreml import (
    LARGE,
    WEIGHTS,
    Features,
    check_spec,
    feature_name,
    inputs_of,
    is_large,
    weight_errors,
)
from lorarar.export.folder import (
    PartReport,
    PipelineReport,
    WriteMerger,
    check_disk,
    copy_rest,
    write_manifest,
)
from lorarar.export.parts import BUILDERS, ENCODERS, Model, Part
from lorarar.export.slots import LARGEST_RANK, example_factors, factor_names, rank_axis
from lorarar.export.to_coreml import NOT_RUN, TARGET
from lorarar.files import refuse_existing, write_folder_atomically
from lorarar.pipeline_format import Stage

PARTS = ("unet", "text_encoder", "text_encoder_2", "vae_decoder")
ENCODER_WIDTHS = {"fp16": "fp16", "int8": "int8", "palette6": "int8", "palette4": "int8"}
BITS = {"fp16": 16, "int8": 8, "palette6": 6, "palette4": 4}
# Relative errors of all large weights of a part that fail its export.
FLOORS = {"fp16": 1e-3, "int8": 3e-2, "palette6": 6e-2, "palette4": 2e-1}
LEAST = {16: torch.finfo(torch.float16).min, 32: torch.finfo(torch.float32).min}
SINUSOID = {"sin", "cos"}
TOWARDS_SINUSOID = {"expand_dims", "reshape", "mul"}


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
            False,
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


def convert(part: Part, compute: str) -> tuple[ct.models.MLModel, Features]:
    """Convert a part, loading its weights, with float16 weights and a dynamic rank.

    compute: "float16" or "float32". Returns the outputs' description, too.

    Raises LorararError if a weight is missing or misshapen.
    """
    program = _trace(part)
    given = [node.meta["val"] for node in program.graph.output_node().args[0]]
    names = [feature_name(name) for name in part.outputs]
    outputs: Features = {
        name: ("float32", [(size, size) for size in value.shape])
        for name, value in zip(names, given, strict=True)
    }
    pipeline = ct.PassPipeline.DEFAULT
    precision = ct.precision.FLOAT32
    if compute == "float16":
        precision = ct.transform.FP16ComputePrecision(op_selector=_may_be_narrow)
    else:
        pipeline.append_pass("lorarar::store_float16")
    model = ct.convert(
        program,
        outputs=[ct.TensorType(name=name, dtype=np.float32) for name in names],
        minimum_deployment_target=TARGET,
        compute_precision=precision,
        pass_pipeline=pipeline,
        skip_model_load=True,
    )
    return model, outputs


def _trace(part: Part) -> torch.export.ExportedProgram:
    """By torch.export, which carries the rank's range to Core ML; inputs get Core ML's names."""
    arguments: tuple = tuple(
        example.int() if example.dtype == torch.int64 else example  # Core ML has no int64
        for example in part.inputs.values()
    )
    shapes: tuple = ({},) * len(arguments)
    if part.slots:
        rank = torch.export.Dim("rank", min=1, max=LARGEST_RANK)
        arguments += (example_factors(part.slots, torch.float16),)
        shapes += ([{rank_axis(name): rank} for name in factor_names(part.slots)],)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(part.load(), arguments, dynamic_shapes=shapes, strict=False)
        # coremltools 9 knows no aten.alias
        program = program.run_decompositions({torch.ops.aten.alias.default: lambda tensor: tensor})
    nodes = {node.name: node for node in program.graph.nodes}
    for node in nodes.values():
        # What masks hidden tokens would be -inf in float16.
        node.args = tuple(LEAST[16] if each == LEAST[32] else each for each in node.args)
    for old, new in zip(program.graph_signature.user_inputs, inputs_of(part), strict=True):
        program.graph_signature.replace_all_uses(old, new)
        nodes[old].name = new
    return program


def _may_be_narrow(operation: Any) -> bool:
    """Whether float16 will do for a MIL operation: not on the way to a sine or cosine."""
    if operation.op_type in SINUSOID:
        return False
    users = [user for output in operation.outputs for user in output.child_ops]
    return operation.op_type not in TOWARDS_SINUSOID or all(map(_may_be_narrow, users))


@register_pass(namespace="lorarar")
class store_float16(AbstractGraphPass):
    """Store float32 weights as float16; Core ML widens them when it loads the package."""

    def apply(self, prog: Program) -> None:
        for function in prog.functions.values():
            with function:
                for weight in function.find_ops(op_type="const"):
                    if weight.outputs[0].dtype == types.fp32 and weight.outputs[0].rank > 1:
                        _store_float16(function, weight)


def _store_float16(function: Any, weight: Any) -> None:
    stored = Builder.constexpr_cast(
        source_val=weight.val.val.astype(np.float16),
        output_dtype="fp32",
        name=f"{weight.name}_widened",
        before_op=weight,
    )
    function.replace_uses_of_var_after_op(
        anchor_op=weight, old_var=weight.outputs[0], new_var=stored
    )
    function.remove_ops([weight])


def compress(model: ct.models.MLModel, width: str) -> ct.models.MLModel:
    """Store a model's large float16 weights in fewer bits; width: one of BITS."""
    if width == "fp16":
        return model
    if width == "int8":
        channel = cto.OpLinearQuantizerConfig(granularity="per_channel", weight_threshold=LARGE)
        return cto.linear_quantize_weights(model, cto.OptimizationConfig(channel))
    table = cto.OpPalettizerConfig(mode="kmeans", nbits=BITS[width], weight_threshold=LARGE)
    return cto.palettize_weights(model, cto.OptimizationConfig(table))


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
