"""Methods to merge, behind one call: plain functions of one signature, picked from `METHODS`."""

from typing import Literal, Unpack

from lorarar.errors import LorararError
from lorarar.hypernet import Hypernet
from lorarar.lora import Lora
from lorarar.methods.factored import FACTORED, FactoredName
from lorarar.methods.options import MergeKeywords, MergeOptions, Method
from lorarar.methods.scheduled import SCHEDULED, ScheduledName

DenseName = Literal["ties", "dare", "dare-ties"]
MethodName = Literal[FactoredName, DenseName]
DrawingMethod = Literal[MethodName, ScheduledName]
DeviceMethod = Literal[FactoredName, ScheduledName]

_CHOOSES = "chooses anew at each step, so it makes no file; draw with: lorarar generate --method"
# Methods that are not here, and what to do instead.
ELSEWHERE = {
    "ziplora": "asks the base model; run: lorarar merge --method ziplora, or pass the function "
    "lorarar.training.ziplora.ziplora",
    "klora": f"{_CHOOSES} klora",
    "est": f"{_CHOOSES} est",
}


def merge(
    content: Lora,
    style: Lora,
    method: MethodName | Method = "lorarar",
    *,
    hypernet: Hypernet | None = None,
    **options: Unpack[MergeKeywords],
) -> Lora:
    """Merge two LoRAs of one base model; see `METHODS` and `MergeOptions`.

    method: a name, or a function like those of `METHODS`.

    Raises LorararError for an unknown method or LoRAs that do not fit together.

    >>> from lorarar.standin import standin_lora
    >>> content, style = (standin_lora("koala-700m", rank=2, seed=seed) for seed in (1, 2))
    >>> merged = merge(content, style, "direct", style_scale=0.8)
    >>> {layer.rank for layer in merged.layers.values()}
    {4}
    """
    return find_method(method)(content, style, MergeOptions(hypernet=hypernet, **options))


def find_method(method: str | Method) -> Method:
    """Return the function of a name; a function is returned as it is.

    Raises LorararError for a name that is not in `METHODS`.
    """
    if not isinstance(method, str):
        return method
    if method not in METHODS:
        unknown = f"is unknown; use one of {', '.join(METHODS)}"
        raise LorararError(f"method '{method}' {ELSEWHERE.get(method, unknown)}")
    return METHODS[method]


def check_for_devices(method: str) -> None:
    """Raise LorararError, with what to do instead, if devices do not know a method."""
    known = (*FACTORED, *SCHEDULED)
    if method in known:
        return
    if method in (*METHODS, *ELSEWHERE):
        raise LorararError(
            f"method '{method}' is not for devices, which know {', '.join(known)}; merge on a "
            f"computer: lorarar merge --method {method} -o merged.safetensors, then load_lora"
        )
    raise LorararError(f"method '{method}' is unknown; devices know {', '.join(known)}")


def _dense(name: DenseName) -> Method:
    """A method whose module is imported when it is asked for, as it imports torch."""

    def imported(content: Lora, style: Lora, options: MergeOptions) -> Lora:
        from lorarar.methods.dense import DENSE

        return DENSE[name](content, style, options)

    return imported


METHODS: dict[str, Method] = {
    **FACTORED,
    "ties": _dense("ties"),
    "dare": _dense("dare"),
    "dare-ties": _dense("dare-ties"),
}
