"""Ask a judge everything that the cache does not know yet, a few calls at a time."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from lorarar.errors import LorararError
from lorarar.evaluate.cache import Cache
from lorarar.evaluate.calls import Call, Reply, read_picture
from lorarar.evaluate.judges import JudgeOptions, Unanswered, judge_name, open_judge

GIVE_UP = 20  # calls without an answer, one after another
BATCH = 32  # calls that a Ray worker gets at once
WORDS_PER_TOKEN = 0.75
PATCH = 28  # pixels: the side of what many models make one token of


@dataclass
class Tally:
    """What asking came to. why: of the last call without an answer."""

    cached: int = 0
    asked: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    why: str = ""

    @property
    def calls(self) -> int:
        """All that there were."""
        return self.cached + self.asked + self.failed

    def cost(self, price: tuple[float, float]) -> float:
        """What the tokens cost, at prices per million of input and of output tokens."""
        return (self.input_tokens * price[0] + self.output_tokens * price[1]) / 1e6


class _Ledger:
    """Puts answers into the cache, counts, and stops when nobody answers any more."""

    def __init__(self, cache: Cache, name: str, after_call: Callable[[], object]) -> None:
        self.cache, self.name, self.after_call = cache, name, after_call
        self.tally = Tally()
        self.failures = 0
        self.under_way: set[str] = set()

    def missing(self, calls: Iterable[Call]) -> Iterator[tuple[str, Call]]:
        """Yield each call that has no answer yet, with its key."""
        for call in calls:
            key = call.key(self.name)
            if key in self.under_way or self.cache.get(key) is not None:
                self.tally.cached += 1
                self.after_call()
            else:
                self.under_way.add(key)
                yield key, call

    def keep(self, key: str, reply: Reply | Unanswered) -> None:
        self.after_call()
        self.under_way.remove(key)
        if isinstance(reply, Reply):
            self.cache.put(key, reply)
            self.tally.asked += 1
            self.tally.input_tokens += reply.input_tokens
            self.tally.output_tokens += reply.output_tokens
            self.failures = 0
            return
        self.tally.failed += 1
        self.tally.why = str(reply)
        self.failures += 1
        if self.failures == GIVE_UP:
            raise LorararError(
                f"{self.name}: {GIVE_UP} calls in a row got no answer (at last {reply}); what was "
                "answered is kept, run the same command again"
            )


def ask_all(
    calls: Iterable[Call],
    options: JudgeOptions,
    cache: Cache,
    *,
    workers: int | None = None,
    after_call: Callable[[], object] = lambda: None,
) -> Tally:
    """Ask what has no answer yet and keep each answer as it comes, in memory of a few calls.

    workers: None asks from here, `options.at_once` calls at a time; a number lets so many Ray
    workers ask, each with a judge of its own. All of them must see the pictures at the same path.

    Raises LorararError for bad input, if the judge cannot be opened or refuses everything.
    """
    ledger = _Ledger(cache, judge_name(options), after_call)
    missing = ledger.missing(calls)
    if workers is None:
        asyncio.run(_ask_here(missing, options, ledger))
    else:
        _ask_through_ray(missing, options, ledger, workers)
    return ledger.tally


async def _ask_here(
    missing: Iterator[tuple[str, Call]], options: JudgeOptions, ledger: _Ledger
) -> None:
    async def work() -> None:
        for key, call in missing:  # all workers take from the same
            try:
                reply: Reply | Unanswered = await ask(call)
            except Unanswered as error:
                reply = error
            ledger.keep(key, reply)

    async with open_judge(options) as ask:
        await asyncio.gather(*(work() for _ in range(options.at_once)))


async def _answers(calls: list[Call], options: JudgeOptions) -> list[Reply | str]:
    """Answer a few calls, in order; a text says why there is no answer."""

    async def answer(call: Call) -> Reply | str:
        async with turns:
            try:
                return await ask(call)
            except Unanswered as error:
                return str(error)

    turns = asyncio.Semaphore(options.at_once)
    async with open_judge(options) as ask:
        return await asyncio.gather(*map(answer, calls))


class _Worker:
    """Lives in a process of Ray's, where a local judge stays loaded."""

    def answer(self, calls: list[Call], options: JudgeOptions) -> list[Reply | str]:
        return asyncio.run(_answers(calls, options))


def _ask_through_ray(
    missing: Iterator[tuple[str, Call]], options: JudgeOptions, ledger: _Ledger, workers: int
) -> None:
    try:
        import ray
    except ImportError as error:
        raise LorararError("--workers needs Ray; run: pip install 'lorarar[cluster]'") from error
    ray.init(ignore_reinit_error=True, include_dashboard=False)
    try:
        gpus = 1 if ray.cluster_resources().get("GPU") and ":" not in options.judge else 0
        worker = ray.remote(_Worker).options(num_gpus=gpus, max_restarts=2, max_task_retries=2)
        idle = [worker.remote() for _ in range(workers)]
        running: dict = {}
        while True:
            while idle and (batch := [*islice(missing, BATCH)]):
                at = idle.pop()
                running[at.answer.remote([call for _, call in batch], options)] = (at, batch)
            if not running:
                return
            (done, *_), _ = ray.wait([*running])
            at, batch = running.pop(done)
            for (key, _), reply in zip(batch, ray.get(done), strict=True):
                ledger.keep(key, Unanswered(reply) if isinstance(reply, str) else reply)
            idle.append(at)
    except ray.exceptions.RayTaskError as error:
        raise LorararError(str(error.cause).splitlines()[0]) from error
    finally:
        ray.shutdown()


def estimate(calls: Iterable[Call], options: JudgeOptions, cache: Cache) -> Tally:
    """Count what `ask_all` would ask, with about as many tokens: nothing is asked.

    A picture counts as one token for each 28 x 28 pixels, an answer as its longest.
    """
    ledger = _Ledger(cache, judge_name(options), lambda: None)
    tally = ledger.tally
    sizes: dict = {}
    for _, call in ledger.missing(calls):
        tally.asked += 1
        for path in call.pictures:
            if (path, call.side) not in sizes:
                width, height = read_picture(path, call.side).size
                sizes[path, call.side] = -(-width // PATCH) * -(-height // PATCH)
            tally.input_tokens += sizes[path, call.side]
        tally.input_tokens += round(len(call.text.split()) / WORDS_PER_TOKEN)
        tally.output_tokens += call.tokens
    return tally
