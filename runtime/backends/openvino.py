"""OpenVINO, on the files that are exported for ONNX Runtime.

Its Python binding looks at every input of every call, which for the hundreds of factors of a UNet
takes longer than a small step: they are handed over when they change, and stay where they are.
"""

from functools import cache
from pathlib import Path
from queue import SimpleQueue
from tempfile import NamedTemporaryFile

import numpy as np
import onnx
from openvino import CompiledModel, Core, InferRequest, Model, Tensor, Type

from lorarar.artefacts.merger import MergerManifest
from lorarar.artefacts.pipeline import Stage
from lorarar.errors import LorararError
from lorarar.runtime.backends import RunGraph, RunStage, Tensors, one_line


def load(path: Path, threads: int) -> tuple[MergerManifest, RunGraph, int]:
    """Open an .onnx file, one thread per run.

    Each graph is compiled at its first use, as a run takes all inputs of what was compiled.
    """
    file = _parse(path)
    text = next((each.value for each in file.metadata_props if each.key == "manifest"), None)
    manifest = MergerManifest.parse(text, path)
    forms = manifest.graphs()
    _take_defaults(file)
    model = _read(file, path)
    parameters = {each.friendly_name: each for each in model.get_parameters()}

    @cache
    def idle_requests(graph: str) -> SimpleQueue[InferRequest]:
        inputs = [parameters[f"{graph}.{part}"] for part in manifest.inputs(forms[graph][0])]
        m = model.output(f"{graph}.m").node.input_value(0)
        compiled = _compile(Model([m], inputs), path, threads, streams=threads)
        idle: SimpleQueue[InferRequest] = SimpleQueue()
        for _ in range(threads):
            idle.put(compiled.create_infer_request())
        return idle

    def run(graph: str, arrays: list[np.ndarray]) -> np.ndarray:
        idle = idle_requests(graph)
        request = idle.get()
        try:
            given = [_set_input(request, index, array) for index, array in enumerate(arrays)]
            [m] = _infer(request, path)
            del given  # which the request has read
            return m
        finally:
            idle.put(request)

    return manifest, run, threads


def open_stage(path: Path, stage: Stage, threads: int) -> RunStage:
    """Open one part of a pipeline; factors that are not fed have rank 1 of zeros."""
    file = _parse(path)
    defaults = _take_defaults(file)
    compiled = _compile(_read(file, path), path, threads)
    indices = {port.any_name: index for index, port in enumerate(compiled.inputs)}
    request = compiled.create_infer_request()
    held: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # what was fed, and what the request reads

    def run(feeds: Tensors) -> Tensors:
        for name, array in (defaults | feeds).items():
            if name not in held or held[name][0] is not array:
                held[name] = array, _set_input(request, indices[name], array)
        return dict(zip(stage.outputs, _infer(request, path), strict=True))

    return run


@cache
def _core() -> Core:
    return Core()


def _parse(path: Path) -> onnx.ModelProto:
    """Read a file without the weights beside it."""
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:  # its parser's exceptions derive from Exception alone
        raise _unusable(path, error) from error


def _take_defaults(file: onnx.ModelProto) -> Tensors:
    """Make inputs of a file that have defaults plain ones, of any rank; return the defaults.

    OpenVINO takes these inputs for constants, and those of rank 0 for scalars: they get rank 1.
    """
    graph = file.graph
    inputs = {value.name: value for value in graph.input}
    taken = [tensor for tensor in graph.initializer if tensor.name in inputs]
    defaults = {}
    for tensor in taken:
        default = onnx.numpy_helper.to_array(tensor)
        defaults[tensor.name] = (
            default
            if default.size
            else np.zeros([size or 1 for size in default.shape], default.dtype)
        )
        for size in inputs[tensor.name].type.tensor_type.shape.dim:
            if size.dim_value < 2:  # of the rank
                size.Clear()
        graph.initializer.remove(tensor)
    return defaults


def _spread_scales(file: onnx.ModelProto, folder: Path) -> None:
    """Give rows a scale each where a weight's last block is short, which OpenVINO does not take."""
    tensors = {tensor.name: tensor for tensor in file.graph.initializer}
    for node in file.graph.node:
        block = next((each for each in node.attribute if each.name == "block_size"), None)
        if node.op_type != "DequantizeLinear" or block is None:
            continue
        numbers, scales = (tensors[name] for name in node.input)
        rows = numbers.dims[0]
        if rows % block.i:
            each = onnx.numpy_helper.to_array(scales, str(folder))
            spread = np.repeat(each, block.i, axis=0)[:rows]
            scales.CopyFrom(onnx.numpy_helper.from_array(spread, scales.name))
            block.i = 1


def _read(file: onnx.ModelProto, path: Path) -> Model:
    """Weights stay in the files beside `path`, mapped; only a file there may refer to them."""
    try:
        _spread_scales(file, path.parent)
        with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".onnx") as beside:
            beside.write(file.SerializeToString())
            beside.flush()
            return _core().read_model(beside.name)
    except OSError as error:
        raise LorararError(
            f"{path.parent}: cannot be written ({error.strerror}), where OpenVINO needs a file for "
            "a moment; make the folder writable"
        ) from error
    except RuntimeError as error:
        raise _unusable(path, error) from error


def _compile(model: Model, path: Path, threads: int, streams: int = 1) -> CompiledModel:
    """streams: how many requests run at once, which share the threads."""
    options = {
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it
    }
    try:
        return _core().compile_model(model, "CPU", options)
    except RuntimeError as error:
        raise _unusable(path, error) from error


def _set_input(request: InferRequest, index: int, array: np.ndarray) -> np.ndarray:
    """Return what the request reads, which the caller holds until it has: mostly `array` itself."""
    read = np.require(array, requirements=["C", "ALIGNED"])
    request.set_input_tensor(index, Tensor(read, list(read.shape), Type(read.dtype)))
    return read


def _infer(request: InferRequest, path: Path) -> list[np.ndarray]:
    try:
        request.infer()
    except RuntimeError as error:
        raise LorararError(f"{path}: cannot be run ({one_line(error)})") from error
    return [np.array(tensor.data) for tensor in request.output_tensors]


def _unusable(path: Path, error: Exception) -> LorararError:
    return LorararError(
        f"{path}: not a usable ONNX file, or too large for the memory here ({one_line(error)}); "
        "export it again"
    )
