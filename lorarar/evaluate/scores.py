"""Means over pictures, then over pairs of subject and style, with intervals by bootstrap."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import numpy as np

from lorarar.evaluate.judged import Judged

RESAMPLES = 10_000
CHUNK = 1_000_000  # numbers drawn at a time


@dataclass
class Sums:
    """Of one pair's pictures: by column the sum and the number of values that there are."""

    pictures: int = 0
    unclear: int = 0
    missing: int = 0
    values: dict[str, tuple[float, int]] = field(default_factory=dict)

    def add(self, picture: Judged) -> None:
        """Count a picture in."""
        self.pictures += 1
        self.unclear += picture.unclear
        self.missing += picture.missing
        for name, value in picture.shown.items():
            total, count = self.values.get(name, (0.0, 0))
            known = value is not None
            self.values[name] = total + (value or 0.0), count + known

    def mean(self, name: str) -> float | None:
        """The mean of a column; None if no picture has a value."""
        total, count = self.values.get(name, (0.0, 0))
        return total / count if count else None


Pairs = dict[tuple[str, str | None, str | None], Sums]


def sum_up(pictures: Iterable[Judged]) -> Pairs:
    """Sum up pictures by method, subject and style."""
    pairs: Pairs = {}
    for picture in pictures:
        pairs.setdefault(picture.picture.pair, Sums()).add(picture)
    return pairs


def rows_of(pairs: Pairs) -> list[dict[str, Any]]:
    """One row per method: each column's mean over pairs with its 95 % interval, and counts."""
    rows = []
    for method in dict.fromkeys(method for method, _, _ in pairs):
        sums = [each for (of, _, _), each in pairs.items() if of == method]
        row: dict[str, Any] = {
            "method": method,
            "pairs": len(sums),
            "pictures": sum(each.pictures for each in sums),
            "unclear": sum(each.unclear for each in sums),
            "missing": sum(each.missing for each in sums),
        }
        for column in dict.fromkeys(name for each in sums for name in each.values):
            shares = [share for each in sums if (share := each.mean(column)) is not None]
            low, high = interval(shares) if shares else (None, None)
            row |= {
                column: mean(shares) if shares else None,
                f"{column}_low": low,
                f"{column}_high": high,
            }
        rows.append(row)
    return rows


def pair_rows(pairs: Pairs) -> list[dict[str, Any]]:
    """One row per method, subject and style."""
    return [
        {
            "method": method,
            "subject": subject,
            "style": style,
            "pictures": sums.pictures,
            "means": {name: sums.mean(name) for name in sums.values},
        }
        for (method, subject, style), sums in pairs.items()
    ]


def interval(shares: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the mean of (n,) values, by resampling."""
    generator, values = np.random.default_rng(seed), np.asarray(shares)
    rows = max(1, CHUNK // len(values))
    counts = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    means = [generator.choice(values, (count, len(values))).mean(1) for count in counts]
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5))
    return float(low), float(high)
