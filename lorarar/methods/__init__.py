"""Methods to merge, behind one call: plain functions of one signature, picked from `METHODS`."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal

from lorarar.errors import LorararError
from lorarar.lora import Lora
from lorarar.methods.factored import FACTORED, FactoredName
from lorarar.methods.options import MergeOptions

Method = Callable[[Lora, Lora, MergeOptions], Lora]
MethodName = Literal[FactoredName, "ties", "dare", "dare-ties", "ziplora"]
DrawingMethod = Literal[MethodName, "klora"]  # K-LoRA chooses anew at each step: it makes no file


def merge(content: Lora, style: Lora, method: MethodName = "lorarar", **options: Any) -> Lora:
    """Merge two LoRAs of one base model; see `METHODS` and `MergeOptions`.

    Raises LorararError for an unknown method or LoRAs that do not fit together.

    >>> from lorarar.standin import standin_lora
    >>> content, style = (standin_lora("koala-700m", rank=2, seed=seed) for seed in (1, 2))
    >>> merged = merge(content, style, "direct", style_scale=0.8)
    >>> {layer.rank for layer in merged.layers.values()}
    {4}
    """
    if method not in METHODS:
        raise LorararError(f"method '{method}' is unknown; use one of {', '.join(METHODS)}")
    return METHODS[method](content, style, MergeOptions(**options))


def _with_torch(module: str, name: str) -> Method:
    """A method whose module is imported when it is asked for, as it imports torch."""

    def imported(content: Lora, style: Lora, options: MergeOptions) -> Lora:
        merged: Lora = getattr(import_module(module), name)(content, style, options)
        return merged

    return imported


METHODS: dict[str, Method] = {
    **FACTORED,
    "ties": _with_torch("lorarar.methods.dense", "ties"),
    "dare": _with_torch("lorarar.methods.dense", "dare"),
    "dare-ties": _with_torch("lorarar.methods.dense", "dare_ties"),
    "ziplora": _with_torch("lorarar.training.ziplora", "ziplora"),
}
