"""Options whose value is one of a few words."""

from collections.abc import Collection
from typing import TypeVar

from lorarar.errors import LorararError

Word = TypeVar("Word", bound=str)


def one_of(option: str, given: str, choices: Collection[Word], of: str) -> Word:
    """Return what was given as the choice that it is. of: the format or part that has the choices.

    Raises LorararError, which names the choices, if it is none.
    """
    for word in choices:
        if word == given:
            return word
    raise LorararError(f"{option} {given}: unknown for {of}; use one of {', '.join(choices)}")
