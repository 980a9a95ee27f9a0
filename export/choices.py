"""Options whose value is one of a few words."""

from collections.abc import Collection
from typing import TypeVar

from lorarar.errors import LorararError

Choice = TypeVar("Choice", bound=str)


def choose(option: str, given: str, choices: Collection[Choice], of: str) -> Choice:
    """Return what was given as the choice that it is. of: the format or part that has the choices.

    Raises LorararError, which names the choices, if it is none.
    """
    for choice in choices:
        if choice == given:
            return choice
    raise LorararError(f"{option} {given}: unknown for {of}; use one of {', '.join(choices)}")
