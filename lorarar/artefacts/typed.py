"""Dataclasses out of JSON, each value of its field's type; torch-free and without pydantic, as
devices draw with it."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Made = TypeVar("Made")


def typed(kind: type[Made], fields: Mapping[str, Any]) -> Made:
    """Make a dataclass of what JSON gives; a field that is a dataclass takes an object.

    Raises TypeError, which names the field, for one that is missing, unknown, or of another type.

    >>> from lorarar.artefacts.picture import LoraFacts
    >>> typed(LoraFacts, {"name": "ink", "sha256": "00", "scale": 1})
    LoraFacts(name='ink', sha256='00', scale=1)
    """
    hints = get_type_hints(kind)
    made = kind(
        **{
            name: typed(hints[name], value)
            if is_dataclass(hints.get(name)) and isinstance(value, Mapping)
            else value
            for name, value in fields.items()
        }
    )
    for name, wanted in hints.items():
        value = getattr(made, name)
        if not _is_of(value, wanted):
            kinds = [kind for kind in (wanted, *get_args(wanted)) if get_origin(kind) is Literal]
            choices = [choice for kind in kinds for choice in get_args(kind)]
            remedy = f"; use one of {', '.join(choices)}" if choices else ""
            raise TypeError(f"{name} cannot be {value!r:.80}{remedy}")
    return made


def _is_of(value: Any, wanted: Any) -> bool:
    if get_origin(wanted) is Literal:
        return value in get_args(wanted)
    if kinds := get_args(wanted):
        return any(_is_of(value, kind) for kind in kinds)
    return type(value) in ((float, int) if wanted is float else (wanted,))
