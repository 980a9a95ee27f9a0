"""What judges are asked: every wording, with its version. Changing a word needs a new version.

`{generated}` and `{reference}` become the places in which the two pictures are shown, such as
"first"; `{prompt}` what the picture was drawn from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import Literal

Subject = Literal["subject", "style"]
Beside = Literal["subject", "style", "prompt", "nothing"]
Form = Literal["yes or no", "grade", "score with reason", "a or b"]
Values = Mapping[str, float | None]  # by question; None: no answer
SetName = Literal["mars2", "graded", "reasoned"]

YES_OR_NO = "Answer with one word: yes or no."
GRADE = "Answer with one digit and nothing else."
SCORE = 'Answer in JSON and nothing else: {{"reason": "one sentence", "score": 7}}.'


@dataclass(frozen=True)
class Question:
    """One thing that is asked of a picture.

    beside: what the picture is compared with: each reference of its subject or its style, its
    prompt, or nothing. most: the best grade or score, which counts as 1.
    """

    name: str
    beside: Beside
    form: Form
    text: str
    most: int = 1


@dataclass(frozen=True)
class QuestionSet:
    """A protocol.

    combine: from a picture's values by question, in [0, 1], those of the table. side: the longer
    one of pictures that are shown, in pixels. tokens: the longest answer.
    """

    name: str
    version: int
    questions: tuple[Question, ...]
    combine: Callable[[Values], dict[str, float | None]]
    side: int
    tokens: int


def _mars2(values: Values) -> dict[str, float | None]:
    """Content, style, and both of those that were asked for."""
    parts = {"content": values.get("subject"), "style": values.get("style")}
    return {**parts, "both": _all([*values.values()], min)}


def _graded(values: Values) -> dict[str, float | None]:
    looks = [value for name, value in values.items() if name.startswith("style: ")]
    style = _all(looks, lambda known: sum(known) / len(known))
    parts = {"subject": values.get("subject"), "style": style, "prompt": values.get("prompt")}
    asked = [style] if looks else []
    asked += [values[name] for name in ("subject", "prompt") if name in values]
    return {**parts, "product": _all(asked, prod)}


def _reasoned(values: Values) -> dict[str, float | None]:
    quality = ("naturalness", "artefacts")
    semantics = _all([value for name, value in values.items() if name not in quality], min)
    looks = _all([values.get(name) for name in quality], min)
    overall = _all([semantics, looks], lambda known: sqrt(prod(known)))
    return {"semantics": semantics, "quality": looks, "overall": overall}


def _all(values: list[float | None], combine: Callable[[list[float]], float]) -> float | None:
    """Combine if there is an answer to every question, else None."""
    known = [value for value in values if value is not None]
    return combine(known) if known and len(known) == len(values) else None


_REFERENCE = "The {reference} picture is a reference, the {generated} was generated. "
MARS2 = QuestionSet(
    name="mars2",
    version=1,
    questions=(
        Question(
            "subject",
            "subject",
            "yes or no",
            _REFERENCE + "Is the main subject of the generated picture the very same individual or "
            "object as that of the reference? Pay attention to its kind, shape, colours and "
            "markings; ignore the background, the pose and the artistic style. " + YES_OR_NO,
        ),
        Question(
            "style",
            "style",
            "yes or no",
            _REFERENCE + "Is the generated picture made in the same artistic style as the "
            "reference? Pay attention to the medium, the palette, the strokes and the texture; "
            "ignore what is shown. " + YES_OR_NO,
        ),
    ),
    combine=_mars2,
    side=512,
    tokens=16,
)

_GRADES = (
    "Grade from 0 to 4: 0 nothing in common, 1 a little, 2 about half, 3 nearly all, "
    "4 everything. " + GRADE
)


def _graded_style(name: str, what: str) -> Question:
    return Question(
        f"style: {name}",
        "style",
        "grade",
        f"{_REFERENCE}How well does the generated picture match the reference's {what}, whatever "
        f"is shown? {_GRADES}",
        4,
    )


GRADED = QuestionSet(
    name="graded",
    version=1,
    questions=(
        Question(
            "subject",
            "subject",
            "grade",
            _REFERENCE + "How well does the generated picture keep the reference's subject: its "
            "shape, colours, texture and, if it has one, its face? Pose and background do not "
            "count. " + _GRADES,
            4,
        ),
        _graded_style("colour", "colours: its palette, its tones and their contrast"),
        _graded_style("stroke", "strokes: how lines and edges are drawn and how thick they are"),
        _graded_style("texture", "texture: its surface, grain and medium"),
        Question(
            "prompt",
            "prompt",
            "grade",
            "The picture was generated from the words '{prompt}'. How much of what they say does "
            "it show: things, their attributes and relations, the place? " + _GRADES,
            4,
        ),
    ),
    combine=_graded,
    side=512,
    tokens=16,
)

_SCORES = "Give a score from 0 (not at all) to 10 (perfectly). " + SCORE
REASONED = QuestionSet(
    name="reasoned",
    version=1,
    questions=(
        Question(
            "prompt",
            "prompt",
            "score with reason",
            "The picture was generated from the words '{prompt}'. How well does it follow them? "
            + _SCORES,
            10,
        ),
        Question(
            "subject",
            "subject",
            "score with reason",
            _REFERENCE + "How much is the generated picture's subject the reference's? " + _SCORES,
            10,
        ),
        Question(
            "style",
            "style",
            "score with reason",
            _REFERENCE + "How much is the generated picture's style the reference's? " + _SCORES,
            10,
        ),
        Question(
            "naturalness",
            "nothing",
            "score with reason",
            "The picture was generated. How coherent is it for a picture of its style: light, "
            "shadow, perspective, proportions? " + _SCORES,
            10,
        ),
        Question(
            "artefacts",
            "nothing",
            "score with reason",
            "The picture was generated. How free is it of flaws: distorted or doubled parts, "
            "smears, watermarks, noise? " + _SCORES,
            10,
        ),
    ),
    combine=_reasoned,
    side=512,
    tokens=200,
)

QUESTION_SETS: dict[SetName, QuestionSet] = {
    "mars2": MARS2,
    "graded": GRADED,
    "reasoned": REASONED,
}

PREFERENCE_VERSION = 1
PREFERENCE = (
    "The first picture shows a subject, the second an artistic style. The third and the fourth "
    "picture were generated to show that subject in that style. Which of the two does it better, "
    "weighing subject and style alike? Answer with one word: third, fourth, or tie."
)
VOTES = {  # what people are asked
    "subject": "Does the picture show this very subject, whatever its style?",
    "style": "Is the picture made in this style, whatever it shows?",
    "preference": "Which picture shows this subject in this style better?",
}
