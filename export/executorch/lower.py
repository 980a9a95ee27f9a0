"""Lowering one part of a pipeline to an ExecuTorch program, quantised, for one delegate.

Weights are quantised here, their layers' inputs as the program runs: a token's to one scale for
linear layers, a whole picture's for convolutions, which have 8 bits in either case.
"""

from typing import Any, Literal, get_args

import torch
from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.exir.passes import MemoryPlanningPass
from torch import Tensor, nn
from torch.ao.quantization.fx import _decomposed  # noqa: F401, which defines the operators
from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
from torchao.quantization.granularity import PerAxis, PerGroup

from lorarar.artefacts.formats import ExecutorchQuantize
from lorarar.errors import LorararError
from lorarar.export.choices import one_of
from lorarar.export.executorch.shortcuts import shortcuts
from lorarar.export.factors import trace_with_factors
from lorarar.export.parts import Part

Delegate = Literal["xnnpack", "vulkan", "coreml"]
RUNS_HERE: Delegate = "xnnpack"
OPERATORS = torch.ops.quantized_decomposed
GROUP = 32  # of int4 weights that share a scale
# torch has int4, its stubs do not.
INT4 = Int8DynamicActivationIntxWeightConfig(torch.int4, PerGroup(GROUP))  # type: ignore[attr-defined]
INT8 = Int8DynamicActivationIntxWeightConfig(torch.int8, PerAxis(0))


def _xnnpack(width: ExecutorchQuantize) -> list[Any]:
    from executorch.backends.xnnpack.partition import xnnpack_partitioner as xnnpack
    from executorch.backends.xnnpack.partition.config.gemm_configs import ConvolutionConfig

    everything = xnnpack.XnnpackPartitioner()
    if width == "none":
        return [everything]
    # By themselves, as XNNPACK fails on a quantised convolution that follows others in one call.
    convolutions = xnnpack.XnnpackPartitioner(
        [ConvolutionConfig], xnnpack.ConfigPrecisionType.DYNAMIC_QUANT
    )
    # Else what is left to the second would be decomposed before it comes.
    convolutions.ops_to_not_decompose = everything.ops_to_not_decompose
    return [convolutions, everything]


def _partitioners(delegate: Delegate, width: ExecutorchQuantize) -> list[Any]:
    if delegate == "vulkan":
        from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner

        return [VulkanPartitioner()]
    if delegate == "coreml":
        from executorch.backends.apple.coreml.partition import CoreMLPartitioner

        return [CoreMLPartitioner()]
    return _xnnpack(width)


def choose_delegate(name: str) -> Delegate:
    """Return the delegate of this name; raises LorararError if it cannot be had here."""
    delegates = get_args(Delegate)
    if name == "qnn":
        raise LorararError(
            "--delegate qnn: lowers with Qualcomm's SDK, for one chip at a time, and the "
            f"executorch wheel holds none; use one of {', '.join(delegates)}"
        )
    return one_of("--delegate", name, delegates, "ExecuTorch")


def attend(
    attention: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor | None = None,
    attention_mask: None = None,
) -> Tensor:
    """Attention whose every step XNNPACK takes; diffusers' own also looks for rows masked whole."""

    def heads(values: Tensor) -> Tensor:
        return values.reshape(values.shape[1], attention.heads, -1).transpose(0, 1)

    source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
    queries = heads(attention.to_q(hidden_states)) * attention.scale
    keys, values = heads(attention.to_k(source)), heads(attention.to_v(source))
    mixed = torch.bmm(torch.bmm(queries, keys.mT).softmax(-1), values)
    return attention.to_out[0](mixed.transpose(0, 1).reshape(hidden_states.shape))


def lower(part: Part, width: ExecutorchQuantize, delegate: Delegate) -> bytes:
    """Quantise a loaded part's weights, in place, and lower it; ranks go from 1 to LARGEST_RANK.

    The program's inputs are the part's, then down and up of each projection, all contiguous.
    """
    if width != "none":
        _quantise(part.module, width)
    inputs = [torch.zeros(value.shape, dtype=value.dtype) for value in part.inputs.values()]
    with shortcuts():
        exported = trace_with_factors(part.module, inputs, part.projections, torch.float32)
        lowered = to_edge_transform_and_lower(exported, partitioner=_partitioners(delegate, width))
        # The caller's own arrays are read in place: room for the largest rank would be large.
        planning = MemoryPlanningPass(alloc_graph_input=False)
        config = ExecutorchBackendConfig(memory_planning_pass=planning)
        return bytes(lowered.to_executorch(config).buffer)


def _quantise(module: nn.Module, width: ExecutorchQuantize) -> None:
    for name, layer in list(module.named_modules()):
        if isinstance(layer, nn.Linear):
            grouped = width == "int4" and layer.in_features % GROUP == 0
            quantize_(layer, INT4 if grouped else INT8)
        elif isinstance(layer, nn.Conv2d):
            module.set_submodule(name, _DynamicConv(layer))


class _DynamicConv(nn.Module):
    """A convolution with int8 weights, a scale per output, on inputs quantised to int8.

    In the operators that XNNPACK knows by name; torchao quantises no convolutions.
    """

    weight: Tensor
    scale: Tensor
    zero: Tensor

    def __init__(self, layer: nn.Conv2d):
        super().__init__()
        scale = layer.weight.abs().amax((1, 2, 3)).clamp_min(1e-12) / 127
        numbers = (layer.weight / scale[:, None, None, None]).round().to(torch.int8)
        self.register_buffer("weight", numbers)
        self.register_buffer("scale", scale)
        self.register_buffer("zero", torch.zeros(len(scale), dtype=torch.int64))
        self.bias, self.stride, self.padding = layer.bias, layer.stride, layer.padding

    def forward(self, image: Tensor) -> Tensor:
        bits = (-128, 127, torch.int8)
        about = OPERATORS.choose_qparams.tensor(image, -128, 127, 1e-6, torch.int8)
        image = OPERATORS.quantize_per_tensor.tensor(image, *about, *bits)
        image = OPERATORS.dequantize_per_tensor.tensor(image, *about, *bits)
        weight = OPERATORS.dequantize_per_channel(self.weight, self.scale, self.zero, 0, *bits)
        return nn.functional.conv2d(image, weight, self.bias, self.stride, self.padding)
