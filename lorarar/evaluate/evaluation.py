"""`lorarar evaluate`: ask, sum up, write the results' folder."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from lorarar.evaluate.cache import Cache, open_cache
from lorarar.evaluate.calls import Call, Order, calls_about
from lorarar.evaluate.folder import Picture, References, find_pictures, find_references
from lorarar.evaluate.judged import Judged, judged
from lorarar.evaluate.judges import JudgeOptions, judge_name
from lorarar.evaluate.pages import some_of, write_page
from lorarar.evaluate.questions import QUESTION_SETS, QuestionSet, SetName
from lorarar.evaluate.results import refuse_others, write_results
from lorarar.evaluate.runner import Tally, ask_all, estimate
from lorarar.evaluate.scores import Pairs, pair_rows, rows_of, sum_up
from lorarar.evaluate.votes import PICTURES, RESULTS
from lorarar.files import write_atomically

SCHEMA = "lorarar.evaluation.1"
CACHE, PAGE = "answers.sqlite", "index.html"


@dataclass(frozen=True)
class Job:
    """What is evaluated, and how. side, tokens: those of `QuestionSet` if None."""

    images: Path
    references: Path | None
    output: Path
    judge: JudgeOptions
    questions: SetName = "mars2"
    side: int | None = None
    tokens: int | None = None
    order: Order = "reference first"
    again: int = 0
    folders: dict[str, Path | None] = field(default_factory=dict)

    @property
    def question_set(self) -> QuestionSet:
        """The questions, with the side and the tokens that are asked for."""
        known = QUESTION_SETS[self.questions]
        return replace(known, side=self.side or known.side, tokens=self.tokens or known.tokens)


@dataclass(frozen=True)
class Found:
    """A job's pictures and references."""

    job: Job
    pictures: list[Picture]
    references: References

    def calls(self) -> Iterator[Call]:
        """Everything that is asked, in order."""
        job = self.job
        for picture in self.pictures:
            for _, call in calls_about(
                picture, self.references, job.question_set, order=job.order, again=job.again
            ):
                yield call

    def judged(self, cache: Cache, pictures: list[Picture] | None = None) -> Iterator[Judged]:
        """What the cache says of all pictures, or of some."""
        return judged(
            self.pictures if pictures is None else pictures,
            self.references,
            self.job.question_set,
            cache,
            judge=judge_name(self.job.judge),
            order=self.job.order,
            again=self.job.again,
        )


def find(job: Job) -> Found:
    """Find a job's pictures and references; the embedded judge needs none of the latter.

    Raises LorararError for missing or damaged ones.
    """
    pictures = find_pictures(job.images)
    return Found(job, pictures, find_references(job.references, pictures))


def dry_run(found: Found) -> Tally:
    """Count what would be asked."""
    with open_cache(found.job.output / CACHE, dry=True) as cache:
        return estimate(found.calls(), found.job.judge, cache)


def evaluate(
    found: Found,
    *,
    workers: int | None = None,
    after_call: Callable[[], object] = lambda: None,
) -> tuple[Tally, dict[str, Any]]:
    """Ask what is not answered yet, then write `results.json`, `pictures.jsonl` and the page.

    Returns how asking went and the results. What was asked stays in the folder's cache, so that
    the same call goes on where an earlier one was stopped.

    Raises LorararError for bad input, or if the judge refuses everything.
    """
    job = found.job
    refuse_others(job.output / RESULTS, SCHEMA)
    with open_cache(job.output / CACHE) as cache:
        tally = ask_all(found.calls(), job.judge, cache, workers=workers, after_call=after_call)
        results = _results(found, sum_up(found.judged(cache)), tally)
        write_atomically(job.output / PICTURES, lambda to: _write_rows(to, found, cache), True)
        write_results(job.output / RESULTS, results)
        shown = some_of(found.pictures)
        facts = [f"judge: {results['judge']}", f"questions: {results['questions']}"]
        if len(shown) < len(found.pictures):
            facts.append(f"{len(shown)} of {len(found.pictures)} pictures are shown")
        write_page(
            job.output / PAGE, "Judged pictures", facts, results["rows"], found.judged(cache, shown)
        )
    return tally, results


def _write_rows(file: BinaryIO, found: Found, cache: Cache) -> None:
    for each in found.judged(cache):
        file.write((json.dumps(each.as_row(), ensure_ascii=False) + "\n").encode())


def _results(found: Found, pairs: Pairs, tally: Tally) -> dict[str, Any]:
    job, questions = found.job, found.job.question_set
    judge = judge_name(job.judge)
    asked = [judge, *([job.order] if job.order != "reference first" else [])]
    asked += [f"asked again: {job.again}"] if job.again else []
    rows = rows_of(pairs)
    skipped: dict[str, str] = {}
    if job.folders:
        from lorarar.evaluate.metrics import add_similarities

        skipped = add_similarities(rows, found.pictures, found.references, job.folders)
    return {
        "schema": SCHEMA,
        "judge": judge,
        "rater": ", ".join(asked),
        "questions": f"{questions.name} {questions.version}",
        "side": questions.side,
        "tokens": questions.tokens,
        "order": job.order,
        "again": job.again,
        "calls": asdict(tally),
        "rows": rows,
        "pairs": pair_rows(pairs),
        "skipped": skipped,
    }
