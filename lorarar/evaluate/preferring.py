"""`lorarar prefer`: ask which method's picture is better, sum up, write `preference.json`."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lorarar.errors import LorararError
from lorarar.evaluate.cache import open_cache
from lorarar.evaluate.calls import calls_between
from lorarar.evaluate.evaluation import CACHE
from lorarar.evaluate.folder import find_pictures, find_references
from lorarar.evaluate.judges import JudgeOptions, judge_name
from lorarar.evaluate.preference import between, duels_by_people, duels_of, scores
from lorarar.evaluate.results import write_results
from lorarar.evaluate.runner import Tally, ask_all, estimate
from lorarar.evaluate.votes import Rater

SCHEMA = "lorarar.preference.1"
NOTHING = "nothing to compare: two methods need pictures of one subject in one style"


def prefer(
    images: Path,
    references: Path | None,
    output: Path,
    *,
    judge: JudgeOptions | None,
    votes: Sequence[Rater] = (),
    dry_run: bool = False,
    workers: int | None = None,
    after_call: Callable[[], object] = lambda: None,
) -> tuple[Tally, dict[str, Any]]:
    """Let a judge, people's votes or both decide between methods.

    Returns how asking went and the results, which are empty for a dry run.

    Raises LorararError for bad input, or if there is nothing to compare.
    """
    pictures = find_pictures(images)
    tally, duels = Tally(), duels_by_people(pictures, votes)
    asked: dict[str, int] = {}
    if judge is not None:
        beside = find_references(references, pictures)
        if next(calls_between(pictures, beside), None) is None:
            raise LorararError(f"{images}: {NOTHING}")
        with open_cache(output / CACHE, dry_run) as cache:
            calls = (call for _, call in calls_between(pictures, beside))
            if dry_run:
                return estimate(calls, judge, cache), {}
            tally = ask_all(calls, judge, cache, workers=workers, after_call=after_call)
            decided, counts = duels_of(calls_between(pictures, beside), cache, judge_name(judge))
        duels, asked = [*duels, *decided], asdict(counts)
    if not duels:
        raise LorararError(f"{images}: no clear preference between methods yet; {NOTHING}")
    results = {
        "schema": SCHEMA,
        "judge": judge and judge_name(judge),
        "voters": [rater.name for rater in votes],
        "calls": asdict(tally),
        "asked": asked,
        "rows": scores(duels),
        "between": between(duels),
    }
    write_results(output / "preference.json", results)
    return tally, results
