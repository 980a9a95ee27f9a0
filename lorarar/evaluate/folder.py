"""Which pictures there are to judge, and their references: a folder's names or its manifest.

Pictures: `SUBJECT/STYLE/NN.png`, or `METHOD/SUBJECT/STYLE/NN.png`, or any names that a
`metadata.jsonl` explains. References: `subjects/NAME/*.png` and `styles/NAME/*.png`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorarar.errors import LorararError
from lorarar.evaluate.questions import Subject
from lorarar.text_files import damaged_line, read_json_lines

MANIFEST = "metadata.jsonl"  # as Hugging Face's image folders have it
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
SIDES: dict[Subject, str] = {"subject": "subjects", "style": "styles"}
LINE = (
    '{"file_name": "a.png", "subject": "dog", "style": "ink", "method": "ours", "prompt": "a dog"}'
)


@dataclass(frozen=True)
class Picture:
    """A generated picture. subject, style: names among the references, None if not asked for."""

    path: Path
    subject: str | None
    style: str | None
    method: str = ""
    prompt: str | None = None

    @property
    def pair(self) -> tuple[str, str | None, str | None]:
        """The method, subject and style by which pictures are summed up."""
        return self.method, self.subject, self.style

    def name(self, side: Subject) -> str | None:
        """Return the subject's or the style's name."""
        return self.subject if side == "subject" else self.style


@dataclass(frozen=True)
class References:
    """Reference pictures by name, of subjects and of styles."""

    subject: dict[str, list[Path]]
    style: dict[str, list[Path]]

    def of(self, side: Subject, name: str) -> list[Path]:
        """Return a subject's or a style's pictures."""
        return (self.subject if side == "subject" else self.style)[name]


def find_pictures(folder: Path) -> list[Picture]:
    """List the pictures to judge, by method, subject, style and file name.

    Raises LorararError if there are none, or if names or the manifest do not say what they show.
    """
    if not folder.is_dir():
        raise LorararError(f"{folder}: no such folder; name a folder of pictures")
    manifest = folder / MANIFEST
    pictures = _listed(manifest) if manifest.exists() else _named(folder)
    if not pictures:
        raise LorararError(
            f"{folder}: holds no pictures; put them into SUBJECT/STYLE/NN.png or list them in "
            f"{MANIFEST}"
        )
    return sorted(pictures, key=lambda each: (*(part or "" for part in each.pair), each.path))


def _named(folder: Path) -> list[Picture]:
    pictures = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in parts):
            continue
        if len(parts) not in (3, 4):
            raise LorararError(
                f"{path}: is neither SUBJECT/STYLE/NN.png nor METHOD/SUBJECT/STYLE/NN.png in "
                f"{folder}; move it or list the pictures in {folder / MANIFEST}"
            )
        method = parts[0] if len(parts) == 4 else ""
        pictures.append(Picture(path, parts[-3], parts[-2], method))
    return pictures


def _listed(manifest: Path) -> list[Picture]:
    pictures = []
    for number, line in read_json_lines(manifest, LINE):
        try:
            pictures.append(_picture(manifest.parent, line))
        except (ValueError, KeyError, TypeError) as error:
            raise damaged_line(manifest, number, error, LINE) from error
    missing = next((each.path for each in pictures if not each.path.is_file()), None)
    if missing:
        raise LorararError(f"{manifest}: names '{missing}', which does not exist; remove its line")
    return pictures


def _picture(folder: Path, line: dict) -> Picture:
    words = {key: line.get(key) for key in ("subject", "style", "method", "prompt")}
    wrong = [key for key, word in words.items() if not isinstance(word, str | None)]
    if wrong or not (words["subject"] or words["style"]):
        raise ValueError(f"{line['file_name']}: {', '.join(wrong) or 'neither subject nor style'}")
    return Picture(
        folder / line["file_name"],
        words["subject"],
        words["style"],
        words["method"] or "",
        words["prompt"],
    )


def find_references(folder: Path | None, pictures: Sequence[Picture]) -> References:
    """List the references of what the pictures shall show; none without a folder.

    Raises LorararError if a name has none.
    """
    found: dict[Subject, dict[str, list[Path]]] = {"subject": {}, "style": {}}
    for side, place in SIDES.items():
        for name in sorted({each.name(side) or "" for each in pictures} - {""}):
            files: list[Path] = []
            if folder is not None:
                home = folder / place / name
                files = sorted(home.iterdir()) if home.is_dir() else []
                files = [path for path in files if path.suffix.lower() in SUFFIXES]
                if not files:
                    raise LorararError(
                        f"{home}: no reference pictures of {side} '{name}'; add some"
                    )
            found[side][name] = files
    return References(found["subject"], found["style"])
