"""What was said of each picture, put together from the cache."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lorarar.evaluate.answers import value_of
from lorarar.evaluate.cache import Cache
from lorarar.evaluate.calls import Call, Order, Reply, calls_about, picture_id
from lorarar.evaluate.folder import Picture, References
from lorarar.evaluate.questions import Question, QuestionSet


@dataclass(frozen=True)
class Said:
    """One call and its answer, None if there is none yet. value: in [0, 1], None if not clear."""

    call: Call
    reply: Reply | None
    value: float | None


@dataclass(frozen=True)
class Judged:
    """A picture, all answers about it, and its values by question and as the table has them."""

    picture: Picture
    said: list[Said]
    values: dict[str, float | None]
    shown: dict[str, float | None]

    @property
    def unclear(self) -> int:
        """Count answers that say nothing that was asked for."""
        return sum(each.reply is not None and each.value is None for each in self.said)

    @property
    def missing(self) -> int:
        """Count calls without an answer."""
        return sum(each.reply is None for each in self.said)

    def as_row(self) -> dict[str, Any]:
        """What `pictures.jsonl` says of it."""
        return {
            "picture": picture_id(self.picture.path),
            "file": str(self.picture.path),
            "method": self.picture.method,
            "subject": self.picture.subject,
            "style": self.picture.style,
            "values": self.values,
            "shown": self.shown,
            "said": [
                {
                    "question": each.call.question,
                    "with": [path.name for path in each.call.pictures],
                    "text": each.reply.text if each.reply else None,
                    "yes": each.reply.yes if each.reply else None,
                    "value": each.value,
                }
                for each in self.said
            ],
        }


def judged(
    pictures: Sequence[Picture],
    references: References,
    questions: QuestionSet,
    cache: Cache,
    *,
    judge: str,
    order: Order = "reference first",
    again: int = 0,
) -> Iterator[Judged]:
    """Read each picture's answers, one picture at a time."""
    for picture in pictures:
        by_question: dict[Question, list[Said]] = {}
        for question, call in calls_about(picture, references, questions, order=order, again=again):
            reply = cache.get(call.key(judge))
            value = value_of(reply.text, question.form, question.most) if reply else None
            by_question.setdefault(question, []).append(Said(call, reply, value))
        values = {question.name: _together(each) for question, each in by_question.items()}
        said = [one for each in by_question.values() for one in each]
        yield Judged(picture, said, values, questions.combine(values))


def _together(said: list[Said]) -> float | None:
    """Over the references: of yes and no the majority (a draw is no), else the mean.

    Unclear answers do not count; where an answer is missing there is no value yet.
    """
    if any(each.reply is None for each in said):
        return None
    known = [each.value for each in said if each.value is not None]
    if not known:
        return None
    mean = sum(known) / len(known)
    return float(mean > 0.5) if said[0].call.form == "yes or no" else mean
