"""What raters said, judges and people: from results' folders and from the page's CSV."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorarar.errors import LorararError

COLUMNS = ("voter", "question", "picture", "other", "answer")
UNSURE = "unsure"
WORDS: dict[str, float | None] = {
    "yes": 1.0,
    "no": 0.0,
    "left": 1.0,
    "right": 0.0,
    "tie": 0.5,
    UNSURE: None,
}
RESULTS, PICTURES = "results.json", "pictures.jsonl"


@dataclass
class Rater:
    """A judge's run or a person: values in [0, 1] by question and picture.

    yes: its mean probability of yes, where it gave one.
    """

    name: str
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    yes: dict[str, dict[str, float]] = field(default_factory=dict)

    def set(self, question: str, picture: str, value: float) -> None:
        """Note a value."""
        self.values.setdefault(question, {})[picture] = value


def read_results(folder: Path) -> Rater:
    """Read what a judge said, from what `lorarar evaluate` wrote.

    Raises LorararError if there is none or it is damaged.
    """
    try:
        about = json.loads((folder / RESULTS).read_text("utf-8"))
        rater = Rater(str(about["rater"]))
        with (folder / PICTURES).open(encoding="utf-8") as lines:
            for line in lines:
                _read_row(rater, json.loads(line))
    except FileNotFoundError as error:
        raise LorararError(
            f"{folder}: holds no results; run: lorarar evaluate IMAGES -o {folder}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LorararError(f"{folder}: damaged results ({error!r}); evaluate again") from error
    return rater


def _read_row(rater: Rater, row: dict) -> None:
    shares: dict[str, list[float]] = {}
    for said in row["said"]:
        if said["yes"] is not None:
            shares.setdefault(said["question"], []).append(float(said["yes"]))
    for question, value in row["values"].items():
        if value is not None:
            rater.set(question, row["picture"], float(value))
    for question, each in shares.items():
        rater.yes.setdefault(question, {})[row["picture"]] = sum(each) / len(each)


def read_votes(path: Path) -> list[Rater]:
    """Read people's votes: a rater for each voter; of pairs the picture is `picture other`.

    Raises LorararError if the file is no CSV with these columns or an answer is unknown.
    """
    raters: dict[str, Rater] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"voter", "question", "picture", "answer"} <= {*(reader.fieldnames or ())}:
                raise LorararError(f"{path}: its first line has to be {','.join(COLUMNS)}")
            for row in reader:
                value = _value(row["answer"] or "", f"{path}, line {reader.line_num}")
                rater = raters.setdefault(row["voter"], Rater(row["voter"]))
                picture = " ".join(filter(None, (row["picture"], row.get("other"))))
                if value is not None:
                    rater.set(row["question"], picture, value)
    except (OSError, ValueError, csv.Error) as error:
        raise LorararError(f"{path}: cannot be read as votes ({error})") from error
    return list(raters.values())


def _value(answer: str, place: str) -> float | None:
    word = answer.strip().lower()
    try:
        return WORDS[word] if word in WORDS else _share(word)
    except ValueError as error:
        raise LorararError(
            f"{place}: answer '{answer}' is none of {', '.join(WORDS)} nor a number from 0 to 1"
        ) from error


def _share(word: str) -> float:
    value = float(word)
    if not 0 <= value <= 1:
        raise ValueError(word)
    return value


def read_raters(results: Sequence[Path], votes: Sequence[Path]) -> list[Rater]:
    """Read judges' results and people's votes.

    Raises LorararError if one cannot be read, or two raters have one name.
    """
    raters = [read_results(folder) for folder in results]
    raters += [rater for path in votes for rater in read_votes(path)]
    names = [rater.name for rater in raters]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise LorararError(f"two raters are '{twice}'; give each once, or rename the voter")
    return raters
