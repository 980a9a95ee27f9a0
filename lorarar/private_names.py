"""Private names of other libraries that this project uses: all of them, and why.

A private name may change with any release, so each library's versions that have been tried are
here. `tests/test_private_names.py` checks that each name exists, and that no other is used.
"""

from dataclasses import dataclass
from importlib.metadata import version

TRIED = {
    "torch": ("2.13.0",),
    "executorch": ("1.5.1",),
    "coremltools": ("9.0",),
}


@dataclass(frozen=True)
class PrivateName:
    """A name that may change with any release: `module:name` or `module:Class.attribute`."""

    library: str
    name: str
    why: str


PRIVATE_NAMES = [
    PrivateName(
        "torch", "torch._subclasses.fake_tensor:FakeTensorMode", "to trace a model without weights"
    ),
    PrivateName(
        "torch", "torch._subclasses.fake_tensor:FakeTensor", "to find the weights in a traced model"
    ),
    PrivateName(
        "torch",
        "torch.ao.quantization.fx:_decomposed",
        "defines the operators by which XNNPACK knows a quantised convolution",
    ),
    # Shortcuts only: without them, exports take longer and are the same.
    PrivateName(
        "torch",
        "torch.onnx._internal.exporter:_fx_passes",
        "has the pass that decomposes operators, to leave it out where it would do nothing",
    ),
    PrivateName("torch", "torch:_ops", "has the class of operators"),
    PrivateName("torch", "torch._ops:OpOverload._schema", "tells whether an operator writes"),
    PrivateName("torch", "torch._export:utils", "has the next"),
    PrivateName(
        "torch", "torch._export.utils:_materialize_cpp_cia_ops", "to list operators only once"
    ),
    PrivateName("torch", "torch.fx.graph:_PyTreeCodeGen", "to know graphs with nested inputs"),
    PrivateName("torch", "torch.fx:Graph._codegen", "to write a graph's Python code when called"),
    PrivateName("torch", "torch.fx:GraphModule._code", "the same"),
    PrivateName("torch", "torch.fx:GraphModule._in_spec", "the same"),
    PrivateName("torch", "torch.fx:GraphModule._out_spec", "the same"),
    # Of the second small world's training.
    PrivateName(
        "torch", "torch.nn:Module._compiled_call_impl", "to run a module as it was written"
    ),
    PrivateName("torch", "torch:_foreach_copy_", "one call for the copies of all weights"),
    PrivateName("torch", "torch:_foreach_lerp_", "one call for the means of all weights"),
    PrivateName("torch", "torch.cpu:_is_avx512_bf16_supported", "to choose a fast precision"),
    PrivateName("torch", "torch.cpu:_is_amx_tile_supported", "the same"),
    PrivateName(
        "executorch",
        "executorch.extension.pybindings.portable_lib:_unsafe_reset_threadpool",
        "the only way to choose the number of threads",
    ),
    PrivateName(
        "executorch",
        "executorch.extension.pybindings.portable_lib:_threadpool_get_thread_count",
        "makes the pool, while its notes are left out",
    ),
    PrivateName(
        "coremltools",
        "coremltools.converters.mil.frontend.milproto.load:_load_value",
        "to read the weights that a package stores",
    ),
]


def is_tried(library: str) -> bool:
    """Whether the library here is a version that its private names are known from."""
    return version(library).partition("+")[0] in TRIED[library]
