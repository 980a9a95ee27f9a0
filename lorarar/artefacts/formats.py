"""The formats that models are exported to, and the engines that run them: one table of each."""

from dataclasses import dataclass
from typing import Literal, get_args

FormatName = Literal["onnx", "executorch", "coreml"]
Engine = Literal["onnxruntime", "openvino", "executorch", "coreml", "torch", "numpy"]
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

    engines: run them, the first by default; merger: file name of an exported hypernetwork, which
    has `merger_dtype` in a pipeline's folder; quantize: how a UNet's weights are stored by default.
    """

    engines: tuple[Engine, ...]
    merger: str
    merger_dtype: Dtype
    quantize: Quantize

    @property
    def engine(self) -> Engine:
        """The one that runs them by default."""
        return self.engines[0]


FORMATS: dict[FormatName, Format] = {
    "onnx": Format(("onnxruntime", "openvino"), "merger.onnx", "fp16", "int8"),
    "executorch": Format(("executorch",), "merger.pte", "fp32", "int8"),
    "coreml": Format(("coreml",), "merger.mlpackage", "fp16", "fp16"),
}
FORMAT_OF: dict[Engine, FormatName] = {
    engine: name for name, made in FORMATS.items() for engine in made.engines
}
EXTRAS: dict[Engine, str] = {  # of lorarar, that install an engine; numpy is always there
    "onnxruntime": "[onnxruntime]",
    "openvino": "[openvino]",
    "executorch": "[executorch]",
    "coreml": "[coreml]",
    "torch": "[formats]",
}
