"""The formats that models are exported to, and the engines that run them: one table of each."""

from dataclasses import dataclass
from typing import Literal, get_args

FormatName = Literal["onnx", "executorch", "coreml"]
Engine = Literal["onnxruntime", "executorch", "coreml", "torch", "numpy"]
FORMAT_NAMES: tuple[FormatName, ...] = get_args(FormatName)
Dtype = Literal["fp32", "fp16", "int8"]  # of an exported hypernetwork
# How an exported UNet's weights are stored.
OnnxQuantize = Literal["none", "fp16", "int8", "int4"]
ExecutorchQuantize = Literal["none", "int8", "int4"]
CoremlQuantize = Literal["fp16", "int8", "palette6", "palette4"]
Quantize = OnnxQuantize | ExecutorchQuantize | CoremlQuantize
ENGINES: tuple[Engine, ...] = get_args(Engine)
LARGEST_RANK = 512  # of a LoRA that an export takes


@dataclass(frozen=True)
class Format:
    """What a format's files are called and hold.

    engine: runs them; merger: file name of an exported hypernetwork, which has `merger_dtype` in a
    pipeline's folder; quantize: how a UNet's weights are stored by default.
    """

    engine: Engine
    merger: str
    merger_dtype: Dtype
    quantize: Quantize


FORMATS: dict[FormatName, Format] = {
    "onnx": Format("onnxruntime", "merger.onnx", "fp16", "int8"),
    "executorch": Format("executorch", "merger.pte", "fp32", "int8"),
    "coreml": Format("coreml", "merger.mlpackage", "fp16", "fp16"),
}
FORMAT_OF: dict[Engine, FormatName] = {made.engine: name for name, made in FORMATS.items()}
EXTRAS: dict[Engine, str] = {  # of lorarar, that install an engine; numpy is always there
    "onnxruntime": "[onnxruntime]",
    "executorch": "[executorch]",
    "coreml": "[coreml]",
    "torch": "[formats]",
}
