"""From a slot for one LoRA to a content slot and a style slot, in a traced graph.

Not traced by torch, as sums of two dynamic ranks make that take a third longer.
"""

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from lorarar.artefacts.pipeline import SLOT_PREFIXES, slot_inputs


def add_style_slots(model: ir.Model, projections: Collection[str]) -> None:
    """Give each projection, beside its slot, which becomes the content slot, a style slot.

    It then takes [down_c * m_c; down_s * m_s] and [up_c, up_s]. Every input gets a default, so
    that a run without a LoRA need not feed it: factors have rank 0, the coefficients m are 1 for
    all columns.
    """
    graph = model.graph
    traced = {value.name: value for value in graph.inputs}
    ranks = {
        size
        for projection in projections
        for name in slot_inputs(projection)[:2]
        for size in traced[name].shape or ()
        if isinstance(size, ir.SymbolicDim)
    }
    for projection in projections:
        first_down, first_up, _ = (traced.get(name) for name in slot_inputs(projection))
        assert first_down is not None
        assert first_up is not None
        uses = {value: list(value.uses()) for value in (first_down, first_up)}
        downs, ups = [], []
        for prefix in SLOT_PREFIXES:
            down_name, up_name, m_name = slot_inputs(projection, prefix)
            down = _factor(graph, down_name, first_down)
            ups.append(_factor(graph, up_name, first_up))
            m = ir.Value(name=m_name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([None]))
            _add_input(graph, m, np.ones(1, np.float32))
            wide = _node(graph, "Cast", [down], to=int(ir.DataType.FLOAT))
            downs.append(_node(graph, "Mul", [wide, m]))
        joined = {
            first_down: _node(graph, "Concat", downs, axis=0),
            first_up: _node(graph, "Concat", ups, axis=1),
        }
        for value, places in uses.items():
            for user, index in places:
                user.replace_input_with(index, joined[value])
    _forget_shapes(graph, ranks)
    graph.sort()


def _forget_shapes(graph: ir.Graph, sizes: set[ir.SymbolicDim]) -> None:
    """Of what has one of these sizes: torch traced one rank for all layers, and ONNX Runtime gives
    results of one size the same memory."""
    for node in graph:
        for value in node.outputs:
            if sizes & set(value.shape or ()):
                value.shape = None


def _factor(graph: ir.Graph, name: str, first: ir.Value) -> ir.Value:
    """The traced input itself, or another one like it, with a default of rank 0."""
    value = first if name == first.name else ir.Value(name=name, type=first.type)
    assert first.dtype is not None
    assert first.shape is not None
    fixed = [size if isinstance(size, int) else 0 for size in first.shape]
    value.shape = ir.Shape([size or None for size in fixed])  # each its own rank
    _add_input(graph, value, np.zeros(fixed, first.dtype.numpy()))
    return value


def _add_input(graph: ir.Graph, value: ir.Value, default: np.ndarray) -> None:
    value.const_value = ir.Tensor(default, name=value.name)
    if not value.is_graph_input():
        graph.inputs.append(value)
    graph.register_initializer(value)


def _node(graph: ir.Graph, kind: str, inputs: list[ir.Value], **attributes: int) -> ir.Value:
    node = ir.node(kind, inputs, attributes)
    graph.append(node)
    return node.outputs[0]
