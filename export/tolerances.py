"""The relative errors that fail an export: they find what is broken, not what is coarse."""

from lorarar.artefacts.formats import CoremlQuantize, Dtype, ExecutorchQuantize, OnnxQuantize

# A hypernetwork's graph beside numpy; int8 rounds the input weights to 1/254 of a row's largest.
HYPERNET: dict[Dtype, float] = {"fp32": 1e-5, "fp16": 2e-3, "int8": 3e-2}
# A part beside torch in float32, in one call with random inputs and factors.
ONNX_PART: dict[OnnxQuantize, float] = {"none": 1e-4, "fp16": 1e-3, "int8": 1e-1, "int4": 5e-1}
EXECUTORCH_PART: dict[ExecutorchQuantize, float] = {"none": 1e-3, "int8": 2e-1, "int4": 5e-1}
# One output beside torch in float32, on macOS, of random inputs and factors.
COREML_OUTPUT: dict[CoremlQuantize, float] = {
    "fp16": 2e-2,
    "int8": 1e-1,
    "palette6": 2e-1,
    "palette4": 5e-1,
}
# All large weights of a part, as they are stored, beside the original ones.
COREML_WEIGHTS: dict[CoremlQuantize, float] = {
    "fp16": 1e-3,
    "int8": 3e-2,
    "palette6": 6e-2,
    "palette4": 2e-1,
}
