"""Check Core ML packages: specs and stored weights anywhere, what they compute on macOS."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from re import sub
from typing import Any, Literal

import coremltools as ct
import numpy as np
import torch
from coremltools import proto
from coremltools.converters.mil.frontend.milproto.load import TranscriptionContext, _load_value

from lorarar.artefacts.formats import LARGEST_RANK
from lorarar.artefacts.pipeline import PipelineManifest
from lorarar.diffusion.weights import Weights
from lorarar.errors import LorararError
from lorarar.export.factors import example_factors, factor_names, rank_axis
from lorarar.export.parts import OpenedModel, Part, build_part, random_inputs
from lorarar.export.stages import stages_of

Compute = Literal["float16", "float32"]  # of all operations but a few
Features = dict[str, tuple[str, list[tuple[int, int]]]]  # name: dtype, each size's least and most

TARGET = ct.target.iOS18  # the first with several functions in a package; macOS 15
SPECIFICATION = 9  # of this target
NOT_RUN = "spec checked; not run, as Core ML predicts on macOS only"
MIL_FLOATS = {proto.MIL_pb2.FLOAT16: "float16", proto.MIL_pb2.FLOAT32: "float32"}
ARRAYS = proto.FeatureTypes_pb2.ArrayFeatureType
MOVES = {"const", "cast", "expand_dims", "reshape", "mul"}  # may serve float32 sinusoids, too
WEIGHTS = Path("Data") / "com.apple.CoreML" / "weights" / "weight.bin"
LARGE = 10_000
DEQUANTISE: dict[str, Callable[..., np.ndarray]] = {
    "const": lambda val, **_: val,
    "constexpr_cast": lambda source_val, **_: source_val,
    "constexpr_blockwise_shift_scale": lambda data, scale, **_: data * np.float32(scale),
    "constexpr_lut_to_dense": lambda indices, lut, **_: lut.ravel()[indices],
}


def feature_name(name: str) -> str:
    """Core ML's name of an input or output; `.replace("__", ".")` gives the canonical one."""
    return name.replace(".", "__")


def is_large(weight: Any) -> bool:
    """Whether a weight is stored in fewer bits, and compared with its original; biases never are.

    Below 10 000 elements, coremltools' k-means would need scikit-learn.
    """
    return weight.ndim > 1 and np.prod(weight.shape) >= LARGE


def inputs_of(part: Part) -> Features:
    """What a package of this part must take, in order."""
    features = {
        feature_name(name): (_dtype(example), [(size, size) for size in example.shape])
        for name, example in part.inputs.items()
    }
    factors = zip(
        factor_names(part.projections), example_factors(part.projections, torch.half), strict=True
    )
    for name, example in factors:
        sizes = [(size, size) for size in example.shape]
        sizes[rank_axis(name)] = 1, LARGEST_RANK
        features[feature_name(name)] = "float16", sizes
    return features


def _dtype(example: torch.Tensor) -> str:
    return str(example.dtype).removeprefix("torch.").replace("int64", "int32")


def check_spec(package: Path, inputs: Features, outputs: Features, compute: Compute) -> set[str]:
    """Return the kinds of a package's MIL operations.

    compute: "float16" or "float32", of every operation but the sinusoids, which are float32.

    Raises LorararError unless target, inputs, outputs and the dtypes of results are as wanted.
    """
    spec = ct.utils.load_spec(str(package))
    if spec.specificationVersion != SPECIFICATION:
        raise LorararError(f"{package}: specification {spec.specificationVersion}, not iOS 18's")
    for what, found, wanted in (
        ("takes", _features(spec.description.input), inputs),
        ("gives", _features(spec.description.output), outputs),
    ):
        unlike = [name for name in found | wanted if found.get(name) != wanted.get(name)]
        if unlike or list(found) != list(wanted):
            which = ", ".join(unlike[:3]) or "their order"
            raise LorararError(f"{package}: {what} not what was exported: {which}")
    kinds = set()
    for operation in _operations(spec):
        kinds.add(operation.type)
        dtypes = {MIL_FLOATS.get(output.type.tensorType.dataType) for output in operation.outputs}
        sinusoid = operation.type in ("sin", "cos")
        wanted_dtype = "float32" if sinusoid else compute
        if operation.type not in MOVES and dtypes - {None, wanted_dtype}:
            raise LorararError(f"{package}: '{operation.type}' is not in {wanted_dtype}")
    return kinds


def _features(described: Any) -> Features:
    features = {}
    for feature in described:
        array = feature.type.multiArrayType
        ranges = array.shapeRange.sizeRanges
        sizes = [(size.lowerBound, size.upperBound) for size in ranges] or [
            (size, size) for size in array.shape
        ]
        features[feature.name] = ARRAYS.ArrayDataType.Name(array.dataType).lower(), sizes
    return features


def _operations(spec: Any) -> Iterator[Any]:
    for block in spec.mlProgram.functions["main"].block_specializations.values():
        yield from block.operations


def weight_errors(package: Path, prefix: str, weights: Weights) -> dict[str, tuple[float, float]]:
    """Map each large weight that a package stores to its squared error and its squared norm.

    What is stored, in whatever form, is dequantised and compared with the original, one at a time.
    prefix: of the weights' names in the module that was converted.
    """
    names = {f"p_{prefix}{name}".replace(".", "_"): name for name in weights}
    context = TranscriptionContext(str((package / WEIGHTS).parent))
    errors = {}
    for operation in _operations(ct.utils.load_spec(str(package))):
        stored = operation.outputs[0].name if operation.type in DEQUANTISE else ""
        name = names.get(sub("(_to_fp16)?(_quantized|_palettized|_widened)?$", "", stored))
        if name is None or not is_large(weights[name]):
            continue
        original = np.asarray(weights[name]).astype(np.float32)
        found = _dequantised(operation, context).astype(np.float32)
        error = found.reshape(original.shape) - original
        errors[name] = float(np.vdot(error, error)), float(np.vdot(original, original))
    return errors


def _dequantised(operation: Any, context: Any) -> np.ndarray:
    values = {name: _value(each) for name, each in operation.inputs.items()}
    values |= dict(operation.attributes)
    read = {name: _load_value(context, value) for name, value in values.items()}
    return DEQUANTISE[operation.type](**read)


def _value(argument: Any) -> Any:
    return argument.arguments[0].value


@torch.no_grad()
def compare(
    packages: Sequence[Path], stages: Sequence[Part], given: Mapping[str, torch.Tensor]
) -> Iterator[tuple[str, str, float, float]]:
    """Yield each output's stage, name, relative error and PSNR in dB: Core ML beside torch.

    stages: what the packages were exported from, without weights; torch's have float32. given:
    the part's inputs and factors by name. Both take the outputs of torch's earlier stages, so that
    errors do not add up. The peak of the PSNR is torch's largest value.
    """
    values = dict(given)
    for package, part in zip(packages, stages, strict=True):
        outputs = part.loaded().run(values)
        tensors = {name: values[name] for name in part.inputs}
        tensors |= {name: values[name].half() for name in factor_names(part.projections)}
        feeds = {
            feature_name(name): each.numpy().astype(_dtype(each)) for name, each in tensors.items()
        }
        predicted = ct.models.MLModel(str(package)).predict(feeds)
        for name, wanted in outputs.items():
            error = predicted[feature_name(name)] - wanted.numpy()
            relative = float(np.linalg.norm(error) / np.linalg.norm(wanted))
            psnr = 20 * np.log10(float(wanted.abs().max()) / max(np.sqrt(np.mean(error**2)), 1e-30))
            yield part.name, name, relative, float(psnr)
        values |= outputs


def compare_folder(
    folder: Path, manifest: PipelineManifest, model: OpenedModel
) -> Iterator[tuple[str, str, float, float]]:
    """Yield what `compare` does for every part of an exported folder, of seeded random inputs.

    model: what the folder was exported from.
    """
    for name, written in manifest.parts.items():
        with torch.device("meta"), torch.no_grad():
            whole = build_part(name, model, 1, manifest.side)
            stages = stages_of(whole) if len(written) > 1 else [whole]
        inputs, factors = random_inputs(whole, model)
        packages = [folder / stage.file for stage in written]
        yield from compare(packages, stages, inputs | factors)
