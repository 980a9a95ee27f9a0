"""Spares torch's ONNX exporter a pass: decomposing operators, which traces a graph a second time.

Only graphs need it that have operators which ONNX does not know, or which write to their inputs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from onnxscript import opset21 as onnx
from torch.export import ExportedProgram
from torch.onnx._internal.exporter import _fx_passes
from torch.onnx._internal.exporter._registration import ONNXRegistry

decompose = _fx_passes.decompose_with_registry


@contextmanager
def known_operators_kept() -> Iterator[None]:
    with patch.object(_fx_passes, "decompose_with_registry", decompose_if_needed):
        yield


def decompose_if_needed(
    exported_program: ExportedProgram, registry: ONNXRegistry
) -> ExportedProgram:
    called = {node.target for node in exported_program.graph.nodes if node.op == "call_function"}
    if all(_is_known(operator, registry) for operator in called):
        return exported_program
    return decompose(exported_program, registry)


def _is_known(operator: Any, registry: ONNXRegistry) -> bool:
    if str(operator).startswith("aten._assert"):  # the exporter drops these itself
        return True
    writes = isinstance(operator, torch._ops.OpOverload) and operator._schema.is_mutable
    return not writes and bool(registry.get_decomps(operator))


def _cast(values: Any, dtype: int, *how: Any, **named: Any) -> Any:
    return onnx.Cast(values, to=dtype)


TRANSLATIONS = {torch.ops.aten.to.dtype: _cast}  # what ONNX would not know
