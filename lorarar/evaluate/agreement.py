"""Do raters agree? Accuracy, Cohen's kappa, Krippendorff's alpha, correlation.

With a judge asked in the other order, or again, as another rater, the same figures are its order
bias and its consistency.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from lorarar.evaluate.votes import Rater

Units = Mapping[str, float]  # a rater's values by picture


def accuracy(one: Units, other: Units) -> float | None:
    """The share of common pictures with equal values."""
    common = _common(one, other)
    return float(np.mean(common[0] == common[1])) if common.size else None


def cohens_kappa(one: Units, other: Units) -> float | None:
    """(p_o - p_e) / (1 - p_e) of nominal values; None if both always say the same one thing."""
    common = _common(one, other)
    if not common.size:
        return None
    observed = float(np.mean(common[0] == common[1]))
    shares = [Counter(side.tolist()) for side in common]
    count = common.shape[1]
    expected = sum(shares[0][value] * shares[1][value] for value in shares[0]) / count**2
    return (observed - expected) / (1 - expected) if expected < 1 else None


def pearson(one: Units, other: Units) -> float | None:
    """Pearson's r over common pictures; None where one does not vary."""
    return _correlation(_common(one, other))


def spearman(one: Units, other: Units) -> float | None:
    """Pearson's r of the ranks, equal values at their mean rank."""
    return _correlation(np.array([_ranks(side) for side in _common(one, other)]))


def _correlation(common: np.ndarray) -> float | None:
    if common.shape[1] < 2 or not np.ptp(common, axis=1).all():
        return None
    return float(np.corrcoef(common)[0, 1])


def krippendorffs_alpha(raters: Sequence[Units]) -> float | None:
    """1 - D_o / D_e with squared differences, which for two values is the nominal one, too.

    Any number of raters, any of whose values may be missing. None where no picture has two values
    or all are the same.
    """
    units: dict[str, list[float]] = {}
    for rater in raters:
        for picture, value in rater.items():
            units.setdefault(picture, []).append(value)
    rated = [np.array(values) for values in units.values() if len(values) > 1]
    if not rated:
        return None
    every = np.concatenate(rated)
    # The sum of (a - b)^2 over ordered pairs of n values is 2 n^2 times their variance.
    observed = sum(2 * len(each) ** 2 * each.var() / (len(each) - 1) for each in rated) / len(every)
    expected = 2 * len(every) * every.var() / (len(every) - 1)
    return float(1 - observed / expected) if expected else None


def agreement(raters: Sequence[Rater]) -> list[dict[str, Any]]:
    """One row per question and pair of raters, and one per question over all of them."""
    rows: list[dict[str, Any]] = []
    for question in dict.fromkeys(name for rater in raters for name in rater.values):
        saying = [rater for rater in raters if question in rater.values]
        for one, other in combinations(saying, 2):
            values = one.values[question], other.values[question]
            # A probability says more than the verdict that is made of it.
            fine = [rater.yes.get(question) or rater.values[question] for rater in (one, other)]
            common = _common(*values)
            rows.append(
                {
                    "question": question,
                    "raters": [one.name, other.name],
                    "pictures": common.shape[1],
                    "accuracy": accuracy(*values),
                    "kappa": cohens_kappa(*values),
                    "alpha": krippendorffs_alpha(values),
                    "pearson": pearson(*fine),
                    "spearman": spearman(*fine),
                    "bias": float(np.mean(common[1] - common[0])) if common.size else None,
                }
            )
        if len(saying) > 2:
            every = [rater.values[question] for rater in saying]
            rows.append(
                {
                    "question": question,
                    "raters": [rater.name for rater in saying],
                    "pictures": len(set().union(*every)),
                    "alpha": krippendorffs_alpha(every),
                }
            )
    return rows


def _common(one: Units, other: Units) -> np.ndarray:
    """Return both raters' values of what both rated, (2, n)."""
    pictures = [picture for picture in one if picture in other]
    return np.array([[rater[picture] for picture in pictures] for rater in (one, other)])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which]
