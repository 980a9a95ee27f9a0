"""Converting one part of a pipeline to Core ML, and storing its weights in fewer bits."""

import shutil
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import torch
from coremltools.converters.mil.mil import Builder, Program, types
from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
from coremltools.converters.mil.mil.passes.pass_registry import register_pass

from lorarar.artefacts.formats import CoremlQuantize
from lorarar.export.coreml.check import LARGE, TARGET, Compute, Features, feature_name, inputs_of
from lorarar.export.factors import trace_with_factors
from lorarar.export.parts import Part

WEIGHT_BITS: dict[CoremlQuantize, int] = {"fp16": 16, "int8": 8, "palette6": 6, "palette4": 4}
LEAST = {16: torch.finfo(torch.float16).min, 32: torch.finfo(torch.float32).min}
SINUSOID = {"sin", "cos"}
TOWARDS_SINUSOID = {"expand_dims", "reshape", "mul"}


def convert(part: Part, compute: Compute) -> tuple[ct.models.MLModel, Features]:
    """Convert a loaded part, with float16 weights and a dynamic rank.

    compute: "float16" or "float32". Returns the outputs' description, too.
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
    inputs = [
        torch.zeros(value.shape, dtype=torch.int32 if value.dtype == torch.int64 else value.dtype)
        for value in part.inputs.values()  # Core ML has no int64
    ]
    with torch.no_grad():
        program = trace_with_factors(part.module, inputs, part.projections, torch.float16)
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
        """Replace a program's float32 weights, in place."""
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


def save(model: ct.models.MLModel, width: CoremlQuantize, package: Path) -> None:
    """Write a package with a model's large float16 weights in `width`.

    coremltools would keep copies in the temporary folder, as large as the package, until the
    process ends.
    """
    stored = compress(model, width)
    package.parent.mkdir(exist_ok=True)
    shutil.move(stored.package_path, package)
    shutil.rmtree(model.package_path, ignore_errors=True)


def compress(model: ct.models.MLModel, width: CoremlQuantize) -> ct.models.MLModel:
    """Store a model's large float16 weights in fewer bits."""
    if width == "fp16":
        return model
    if width == "int8":
        channel = cto.OpLinearQuantizerConfig(granularity="per_channel", weight_threshold=LARGE)
        return cto.linear_quantize_weights(model, cto.OptimizationConfig(channel))
    table = cto.OpPalettizerConfig(mode="kmeans", nbits=WEIGHT_BITS[width], weight_threshold=LARGE)
    return cto.palettize_weights(model, cto.OptimizationConfig(table))
