"""Which method is preferred? Wins, ties and losses of two at a time, and Bradley-Terry scores."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from lorarar.errors import LorararError
from lorarar.evaluate.answers import value_of
from lorarar.evaluate.cache import Cache
from lorarar.evaluate.calls import Call, picture_id
from lorarar.evaluate.folder import Picture
from lorarar.evaluate.votes import Rater

RESAMPLES = 1000
STEPS, ENOUGH = 10_000, 1e-9
QUESTION = "preference"


@dataclass(frozen=True)
class Duel:
    """Two methods' pictures of one subject and style. won: 1 if `one` is better, 0.5 for a tie."""

    one: str
    other: str
    pair: tuple[str | None, str | None]
    won: float


@dataclass
class Counts:
    """How asking went. by_order: duels where the place decided, not the picture; third: answers
    for the third picture rather than the fourth, by which a leaning to a place shows.
    """

    duels: int = 0
    by_order: int = 0
    third: int = 0
    fourth: int = 0
    unclear: int = 0
    missing: int = 0


Both = tuple[tuple[Picture, Picture, bool], Call]


def duels_of(calls: Iterable[Both], cache: Cache, judge: str) -> tuple[list[Duel], Counts]:
    """Read the answers to `calls_between`: who wins in both orders wins, else it is a tie.

    A duel with a missing or unclear answer is left out and counted.
    """
    duels, counts, waiting = [], Counts(), {}
    for (shown, beside, swapped), call in calls:
        reply = cache.get(call.key(judge))
        value = value_of(reply.text, call.form) if reply else None
        counts.missing += reply is None
        counts.unclear += reply is not None and value is None
        if not swapped:
            waiting[shown.path, beside.path] = value
            continue
        first = waiting.pop((beside.path, shown.path))
        if first is None or value is None:
            continue
        counts.duels += 1
        counts.third += (first, value).count(1.0)
        counts.fourth += (first, value).count(0.0)
        counts.by_order += first == value != 0.5
        won = (first + 1 - value) / 2
        verdict = won if won in (0.0, 1.0) else 0.5
        duels.append(Duel(beside.method, shown.method, (shown.subject, shown.style), verdict))
    return duels, counts


def duels_by_people(pictures: Sequence[Picture], raters: Sequence[Rater]) -> list[Duel]:
    """Read votes on pairs; each is a duel.

    Raises LorararError for votes on pictures that are not among these.
    """
    known = {picture_id(picture.path): picture for picture in pictures}
    duels = []
    for rater in raters:
        for ids, value in rater.values.get(QUESTION, {}).items():
            if len(ids.split()) != 2 or not {*ids.split()} <= known.keys():
                raise LorararError(f"{rater.name} voted on '{ids}', which is not in this folder")
            one, other = (known[each] for each in ids.split())
            duels.append(Duel(one.method, other.method, (one.subject, one.style), value))
    return duels


def bradley_terry(won: np.ndarray) -> np.ndarray:
    """Strengths (..., k), as logarithms with mean 0, from wins (..., k, k): of row over column.

    P(i beats j) = 1 / (1 + exp(s_j - s_i)); ties are half a win for each. One tie is added
    between any two, without which who always wins has no finite strength. Hunter's MM iterations.
    """
    won = won + 0.5 * (1 - np.eye(won.shape[-1]))
    met = won + won.swapaxes(-1, -2)
    strength = np.ones(won.shape[:-1])
    for _ in range(STEPS):
        sums = strength[..., :, None] + strength[..., None, :]
        new = won.sum(-1) / (met / sums).sum(-1)
        new /= np.exp(np.log(new).mean(-1, keepdims=True))
        moved = np.abs(np.log(new / strength)).max()
        strength = new
        if moved < ENOUGH:
            break
    return np.log(strength)


def scores(duels: Sequence[Duel], seed: int = 0) -> list[dict[str, Any]]:
    """One row per method, best first: its strength with a 95 % interval (bootstrap over pairs of
    subject and style), wins, ties and losses.
    """
    methods = sorted({name for duel in duels for name in (duel.one, duel.other)})
    tables: dict[Any, np.ndarray] = {}
    for duel in duels:
        table = tables.setdefault(duel.pair, np.zeros((len(methods), len(methods))))
        one, other = methods.index(duel.one), methods.index(duel.other)
        table[one, other] += duel.won
        table[other, one] += 1 - duel.won
    every = np.array([*tables.values()]).reshape(-1, len(methods), len(methods))
    strengths = bradley_terry(every.sum(0))
    generator = np.random.default_rng(seed)
    picks = generator.integers(len(every), size=(RESAMPLES, len(every)))
    drawn = bradley_terry(np.stack([every[pick].sum(0) for pick in picks]))
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    rows = [
        {
            "method": method,
            "strength": float(strengths[index]),
            "strength_low": float(low[index]),
            "strength_high": float(high[index]),
            **_record(duels, method),
        }
        for index, method in enumerate(methods)
    ]
    return sorted(rows, key=lambda row: -row["strength"])


def _record(duels: Sequence[Duel], method: str) -> dict[str, Any]:
    results = [duel.won for duel in duels if duel.one == method]
    results += [1 - duel.won for duel in duels if duel.other == method]
    wins, ties = sum(won > 0.5 for won in results), sum(won == 0.5 for won in results)
    return {"wins": wins, "ties": ties, "losses": len(results) - wins - ties}


def between(duels: Sequence[Duel]) -> list[dict[str, Any]]:
    """One row per two methods that met: how often the first won, tied, lost."""
    rows = []
    for one, other in combinations(sorted({n for d in duels for n in (d.one, d.other)}), 2):
        met = [duel for duel in duels if {duel.one, duel.other} == {one, other}]
        if met:
            rows.append({"method": one, "against": other, **_record(met, one)})
    return rows
