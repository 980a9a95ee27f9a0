"""What a judge's words mean. What is not clear is None: nothing is guessed."""

import json
import re

from lorarar.evaluate.questions import Form

# The first word has to stand alone: "No doubt it is" and "Yes and no" are not clear.
FIRST_WORD = re.compile(r"\W*(yes|no)[ \t]*(?:[^\w \t/].*)?", re.IGNORECASE | re.DOTALL)
STATED = re.compile(r"\b(?:final )?answer(?: is)?\W{1,5}(yes|no)\b", re.IGNORECASE)
GRADE = re.compile(r"\W*(?:(?:score|grade|rating)\W{1,5})?(\d+)(?:\s*/\s*(\d+))?\W*", re.IGNORECASE)
CHOICE = re.compile(r"\W*(?:the )?(third|fourth|tie)(?: picture| one)?\W*", re.IGNORECASE)
OBJECT = re.compile(r"\{.*\}", re.DOTALL)


def value_of(text: str, form: Form, most: int = 1) -> float | None:
    """Return what an answer of this form says, in [0, 1]; None if it is not clear.

    Of "a or b", the third picture is 1, a tie 0.5, the fourth 0.
    """
    readers = {"yes or no": _yes, "grade": _grade, "score with reason": _score, "a or b": _choice}
    answer = text.rpartition("</think>")[2].strip()  # thoughts are none, cut short or not
    return None if "<think>" in answer else readers[form](answer, most)


def reason_of(text: str) -> str:
    """Return the reason in a scored answer, or all of it."""
    reason = _object(text).get("reason")
    return reason if isinstance(reason, str) else text


def _yes(text: str, most: int) -> float | None:
    first = FIRST_WORD.fullmatch(text)
    said = {word.lower() for word in STATED.findall(text)}
    if first:
        said.add(first[1].lower())
    return None if len(said) != 1 else float(said == {"yes"})


def _grade(text: str, most: int) -> float | None:
    match = GRADE.fullmatch(text)
    if not match or int(match[2] or most) != most or int(match[1]) > most:
        return None
    return int(match[1]) / most


def _score(text: str, most: int) -> float | None:
    score = _object(text).get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= most:
        return None
    return score / most


def _choice(text: str, most: int) -> float | None:
    match = CHOICE.fullmatch(text)
    return {"third": 1.0, "tie": 0.5, "fourth": 0.0}[match[1].lower()] if match else None


def _object(text: str) -> dict:
    match = OBJECT.search(text)
    try:
        found = json.loads(match[0]) if match else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
