"""From slots for one LoRA to slots for pairs, in a traced graph.

Traced by torch, sums of two dynamic ranks make tracing take a third longer.
"""

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from lorarar.artefacts.pipeline import SLOTS, slot_inputs


def open_slots(model: ir.Model, layers: Iterable[str]) -> None:
    """Let each slot take a LoRA in either slot: down_c * m_c above down_s * m_s, up_c beside up_s.

    Each input has a default, so that a run without a LoRA need not feed it: factors have rank 0,
    coefficients are 1 for all columns.
    """
    graph = model.graph
    traced = {value.name: value for value in graph.inputs}
    for layer in layers:
        first_down, first_up, _ = (traced.get(name) for name in slot_inputs(layer))
        assert first_down is not None and first_up is not None
        readers = {value: list(value.uses()) for value in (first_down, first_up)}
        downs, ups = [], []
        for slot in SLOTS:
            down_name, up_name, m_name = slot_inputs(layer, slot)
            down = _in_slot(graph, down_name, first_down)
            ups.append(_in_slot(graph, up_name, first_up))
            m = ir.Value(name=m_name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([None]))
            _open(graph, m, np.ones(1, np.float32))
            wide = _node(graph, "Cast", [down], to=int(ir.DataType.FLOAT))
            downs.append(_node(graph, "Mul", [wide, m]))
        joined = {
            first_down: _node(graph, "Concat", downs, axis=0),
            first_up: _node(graph, "Concat", ups, axis=1),
        }
        for value, uses in readers.items():
            for user, index in uses:
                user.replace_input_with(index, joined[value])
    graph.sort()


def _in_slot(graph: ir.Graph, name: str, first: ir.Value) -> ir.Value:
    """The traced input itself, or another one like it, with a default of rank 0."""
    value = first if name == first.name else ir.Value(name=name, type=first.type)
    assert first.dtype is not None and first.shape is not None
    fixed = [size if isinstance(size, int) else 0 for size in first.shape]
    value.shape = ir.Shape([size or None for size in fixed])  # each its own rank
    _open(graph, value, np.zeros(fixed, first.dtype.numpy()))
    return value


def _open(graph: ir.Graph, value: ir.Value, default: np.ndarray) -> None:
    value.const_value = ir.Tensor(default, name=value.name)
    if not value.is_graph_input():
        graph.inputs.append(value)
    graph.register_initializer(value)


def _node(graph: ir.Graph, kind: str, inputs: list[ir.Value], **attributes: int) -> ir.Value:
    node = ir.node(kind, inputs, attributes)
    graph.append(node)
    return node.outputs[0]
