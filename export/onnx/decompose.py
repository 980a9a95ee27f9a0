"""Spares torch's ONNX exporter a pass: decomposing operators, which traces a graph a second time.

Only graphs need it that have operators which ONNX does not know, or which write to their inputs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from onnxscript import opset21 as onnx
from torch.export import ExportedProgram

from lorarar.private_names import is_tried


@contextmanager
def known_operators_kept() -> Iterator[None]:
    """Export faster, to the same operators and weights; the names of values between them differ.

    On a torch that has not been tried nothing is changed.
    """
    if not is_tried("torch"):
        yield
        return
    from torch.onnx._internal.exporter import _fx_passes

    decompose = _fx_passes.decompose_with_registry

    def decompose_if_needed(exported_program: ExportedProgram, registry: Any) -> ExportedProgram:
        if needs_decomposing(exported_program, registry):
            return decompose(exported_program, registry)
        return exported_program

    with patch.object(_fx_passes, "decompose_with_registry", decompose_if_needed):
        yield


def needs_decomposing(program: ExportedProgram, registry: Any) -> bool:
    """Whether a program calls what the exporter's registry does not know, or what writes."""
    called = {node.target for node in program.graph.nodes if node.op == "call_function"}
    return not all(_is_known(operator, registry) for operator in called)


def _is_known(operator: Any, registry: Any) -> bool:
    if str(operator).startswith("aten._assert"):  # the exporter drops these itself
        return True
    writes = isinstance(operator, torch._ops.OpOverload) and operator._schema.is_mutable
    return not writes and bool(registry.get_decomps(operator))


def _cast(values: Any, dtype: int, *how: Any, **named: Any) -> Any:
    return onnx.Cast(values, to=dtype)


# What ONNX would not know.
TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.aten.to.dtype: _cast}
