"""What torch does over and over while a graph is lowered, done once or not at all.

What each is worth: benchmarks/LOG.md.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

from torch.fx import GraphModule
from torch.fx.traceback import NodeSource

from lorarar.private_names import is_tried

recompile = GraphModule.recompile


@contextmanager
def shortcuts() -> Iterator[None]:
    """Lower faster, to the same bytes; on a torch that has not been tried nothing is changed.

    Each pass would copy every node's history, list all composite operators, and write the Python
    code of its graphs, which hardly anybody calls.
    """
    if not is_tried("torch"):
        yield
        return
    from torch._export import utils

    with (
        patch.object(NodeSource, "__deepcopy__", lambda source, memo: source, create=True),
        patch.object(utils, "_materialize_cpp_cia_ops", cache(utils._materialize_cpp_cia_ops)),
        patch.object(GraphModule, "recompile", _recompile_when_called),
    ):
        yield


def _recompile_when_called(graph: Any) -> None:
    from torch.fx.graph import _PyTreeCodeGen

    codegen = graph.graph._codegen
    if isinstance(codegen, _PyTreeCodeGen):
        _, graph._in_spec, graph._out_spec = codegen.pytree_info
    graph._code = ""
    type(graph).forward = _recompile_and_call


def _recompile_and_call(graph: Any, *arguments: Any, **named: Any) -> Any:
    recompile(graph)
    return graph(*arguments, **named)
