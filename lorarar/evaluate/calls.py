"""One question about certain pictures, as it is put to a judge."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from io import BytesIO
from itertools import combinations
from json import dumps
from pathlib import Path
from typing import Literal, cast

from PIL import Image

from lorarar.errors import LorararError
from lorarar.evaluate.folder import Picture, References
from lorarar.evaluate.questions import (
    PREFERENCE,
    PREFERENCE_VERSION,
    Form,
    Question,
    QuestionSet,
    Subject,
)
from lorarar.files import sha256 as sha256_of
from lorarar.image_files import UNREADABLE, read_rgb

Order = Literal["reference first", "generated first"]
PLACES = ("first", "second")
REMEMBERED = 64  # pictures in memory as they are sent: a subject's references and a few more


@dataclass(frozen=True)
class Call:
    """What a judge is asked.

    pictures: files in the order shown. generated: which of them is judged. name: of the subject or
    style that it shall show. side, tokens: of `QuestionSet`. again: 1 when it is asked a second
    time, and so on; a cached answer to an earlier time is none to this one.
    """

    question: str
    form: Form
    text: str
    pictures: tuple[Path, ...]
    side: int
    tokens: int
    generated: int = 0
    beside: Subject | None = None
    name: str | None = None
    again: int = 0

    def key(self, judge: str) -> str:
        """Identify the answer: by what is in the files, the words and the judge."""
        asked = {
            "pictures": [picture_id(path) for path in self.pictures],
            "about": [self.text, self.form, self.side, self.tokens, self.again],
            "wanted": [self.generated, self.beside, self.name],
            "judge": judge,
        }
        return sha256(dumps(asked, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Reply:
    """A judge's words. yes: its probability of yes beside no, where it can be read."""

    text: str
    yes: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0


def picture_id(path: Path) -> str:
    """Identify a picture by its contents: 24 hexadecimal digits.

    Raises LorararError if it cannot be read.
    """
    return _digest(path, *_stamp(path))


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when a file does: what is remembered of an older one is forgotten."""
    try:
        about = path.stat()
    except OSError as error:
        raise LorararError(f"{path}: cannot be read ({error.strerror}); restore it") from error
    return about.st_mtime_ns, about.st_size


@lru_cache(maxsize=65536)
def _digest(path: Path, changed: int, size: int) -> str:
    try:
        return sha256_of(path)[:24]
    except OSError as error:
        raise LorararError(f"{path}: cannot be read ({error.strerror}); restore it") from error


def read_picture(path: Path, side: int) -> Image.Image:
    """Return the upright picture in RGB, its longer side at most `side` pixels.

    Raises LorararError if it cannot be read.
    """
    try:
        picture = read_rgb(path)
    except UNREADABLE as error:
        raise LorararError(
            f"{path}: cannot be read as a picture ({error}); remove or replace it"
        ) from error
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def encoded(path: Path, side: int, kind: Literal["PNG", "WEBP"] = "PNG") -> bytes:
    """Return the picture of `read_picture` as a file's bytes."""
    return _encoded(path, _stamp(path), side, kind)


@lru_cache(maxsize=REMEMBERED)
def _encoded(path: Path, stamp: tuple[int, int], side: int, kind: str) -> bytes:
    file = BytesIO()
    read_picture(path, side).save(file, kind)
    return file.getvalue()


def calls_about(
    picture: Picture,
    references: References,
    questions: QuestionSet,
    *,
    order: Order = "reference first",
    again: int = 0,
) -> Iterator[tuple[Question, Call]]:
    """Ask a picture's questions, once per reference; those of a prompt where there is one."""
    places = PLACES if order == "reference first" else PLACES[::-1]
    words = {"reference": places[0], "generated": places[1], "prompt": picture.prompt}
    for question in questions.questions:
        for shown, name in _shown(picture, references, question):
            ordered = shown if order == "reference first" else shown[::-1]
            yield (
                question,
                Call(
                    question=question.name,
                    form=question.form,
                    text=question.text.format(**words),
                    pictures=ordered,
                    side=questions.side,
                    tokens=questions.tokens,
                    generated=len(shown) - 1 if order == "reference first" else 0,
                    beside=None if name is None else cast(Subject, question.beside),
                    name=name,
                    again=again,
                ),
            )


def _shown(
    picture: Picture, references: References, question: Question
) -> Iterator[tuple[tuple[Path, ...], str | None]]:
    """Each time what is shown, the picture last, and the name of what it shall show."""
    if question.beside == "nothing" or (question.beside == "prompt" and picture.prompt):
        yield (picture.path,), None
    elif question.beside != "prompt" and (name := picture.name(question.beside)):
        files = references.of(question.beside, name)
        for reference in files:
            yield (reference, picture.path), name
        if not files:  # for a judge that knows names
            yield (picture.path,), name


def calls_between(
    pictures: Sequence[Picture], references: References, side: int = 512
) -> Iterator[tuple[tuple[Picture, Picture, bool], Call]]:
    """Ask which of two methods' pictures is better, in both orders.

    Methods meet on each pair of subject and style, number by number; of references the first is
    shown, of the number's. The tag is the two pictures, as shown, and whether they are swapped.
    """
    pairs: dict[tuple, dict[str, list[Picture]]] = {}
    for picture in pictures:
        if picture.subject and picture.style:
            methods = pairs.setdefault((picture.subject, picture.style), {})
            methods.setdefault(picture.method, []).append(picture)
    for (subject, style), methods in pairs.items():
        subjects, styles = references.of("subject", subject), references.of("style", style)
        for one, other in combinations(methods, 2):
            for number, both in enumerate(zip(methods[one], methods[other], strict=False)):
                beside = [files[number % len(files)] for files in (subjects, styles)]
                for swapped in (False, True):
                    shown = both[::-1] if swapped else both
                    yield (
                        (shown[0], shown[1], swapped),
                        Call(
                            question=f"preference {PREFERENCE_VERSION}",
                            form="a or b",
                            text=PREFERENCE,
                            pictures=(*beside, *(each.path for each in shown)),
                            side=side,
                            tokens=16,
                            generated=2,
                        ),
                    )
