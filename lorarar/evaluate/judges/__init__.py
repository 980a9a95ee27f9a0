"""Judges: modules of one protocol, each imported when it is asked for.

A module has `name(options)`, what its answers depend on, and `opened(options)`, an asynchronous
context that gives `ask(call)`. `ask` raises `Unanswered` for one call, LorararError for all.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from lorarar.evaluate.calls import Call, Reply

Ask = Callable[[Call], Awaitable[Reply]]


class Unanswered(Exception):
    """A call that got no answer, whatever was tried; the message says why."""


@dataclass(frozen=True)
class JudgeOptions:
    """Which judge.

    judge: `embedded`, `openai:MODEL`, or a transformers model's folder or hub id. base_url: of an
    OpenAI-compatible endpoint. at_once: calls under way. timeout: seconds for one attempt.
    """

    judge: str
    base_url: str | None = None
    at_once: int = 8
    timeout: float = 120.0

    @property
    def model(self) -> str:
        """The endpoint's model."""
        return self.judge.removeprefix("openai:")


class _Module(Protocol):
    def name(self, options: JudgeOptions) -> str: ...

    def opened(self, options: JudgeOptions) -> AbstractAsyncContextManager[Ask]: ...


def _module(options: JudgeOptions) -> _Module:
    kind = "transformers"
    if options.judge == "embedded":
        kind = "embedded"
    elif options.judge.startswith("openai:"):
        kind = "endpoint"
    return cast(_Module, import_module(f"lorarar.evaluate.judges.{kind}"))


def judge_name(options: JudgeOptions) -> str:
    """Identify a judge: answers of judges with one name are interchangeable."""
    return _module(options).name(options)


def open_judge(options: JudgeOptions) -> AbstractAsyncContextManager[Ask]:
    """Open a judge; gives `ask(call)`.

    Raises LorararError if it cannot be opened, naming what to install or to check.
    """
    return _module(options).opened(options)
