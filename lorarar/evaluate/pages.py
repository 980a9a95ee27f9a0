"""The results' page: tables, and pictures with what the judge said. It needs nothing else."""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from lorarar.evaluate.calls import encoded
from lorarar.evaluate.folder import Picture
from lorarar.evaluate.judged import Judged, Said
from lorarar.files import write_atomically

STYLE = Path(__file__).with_name("page.css")
SHOWN = 200  # pictures on the page
SIDE = 224  # pixels


def some_of(pictures: Sequence[Picture], most: int = SHOWN) -> list[Picture]:
    """Pick pictures for the page: the first of each pair, then the second, and so on."""
    pairs: dict[Any, list[Picture]] = {}
    for picture in pictures:
        pairs.setdefault(picture.pair, []).append(picture)
    turns = (each for turn in zip_longest(*pairs.values()) for each in turn if each is not None)
    return [*islice(turns, most)]


def write_page(
    output: Path, title: str, facts: Iterable[str], rows: Sequence[dict], shown: Iterable[Judged]
) -> None:
    """Write the page, a picture at a time, replacing an older one.

    Raises LorararError if it cannot be written.
    """

    def write(file: Any) -> None:
        for part in _page(title, facts, rows, shown):
            file.write(part.encode())

    write_atomically(output, write, force=True)


def _page(
    title: str, facts: Iterable[str], rows: Sequence[dict], shown: Iterable[Judged]
) -> Iterator[str]:
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Whatever a judge says, the page fetches and runs nothing.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:\">\n"
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>\n{STYLE.read_text('utf-8')}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1>\n"
    )
    yield from (f'<p class="quiet">{escape(fact)}</p>\n' for fact in facts)
    yield "</header>\n<main>\n"
    yield from _table(rows)
    yield '<h2>Pictures</h2>\n<div class="cards">\n'
    yield from map(_card, shown)
    yield "</div>\n</main>\n</body>\n</html>\n"


def _table(rows: Sequence[dict]) -> Iterator[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    plain = [key for key in columns if not key.endswith(("_low", "_high"))]
    heads = "".join(f'<th scope="col">{escape(key)}</th>' for key in plain)
    yield '<div class="scroll" tabindex="0" role="region" aria-label="scores">\n<table>\n'
    yield f"<thead><tr>{heads}</tr></thead>\n<tbody>\n"
    for row in rows:
        first, *cells = (cell_of(row, key) for key in plain)
        yield f'<tr><th scope="row">{escape(first)}</th>'
        yield "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>\n"
    yield "</tbody>\n</table>\n</div>\n"


def cell_of(row: dict[str, Any], key: str) -> str:
    """Show a value with its interval: 0.71 (0.65 - 0.77)."""
    value = row.get(key)
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    return f"{value:.2f}" + (f" ({low:.2f} - {high:.2f})" if low is not None else "")


def _card(judged: Judged) -> str:
    picture = judged.picture
    data = b64encode(encoded(picture.path, SIDE, "WEBP")).decode()
    name = ", ".join(filter(None, (picture.method, picture.subject, picture.style)))
    values = "".join(map(_value, judged.shown.items()))
    said = "".join(map(_said, judged.said))
    return (
        f'<article><img src="data:image/webp;base64,{data}" alt="{escape(name)}">'
        f"<h3>{escape(name)}</h3><small>{escape(picture.path.name)}</small>"
        f"<p>{values}</p><details><summary>{len(judged.said)} answers</summary>"
        f"<ul>{said}</ul></details></article>\n"
    )


def _value(item: tuple[str, float | None]) -> str:
    name, value = item
    kind = "" if value is None else ' class="yes"' if value > 0.5 else ' class="no"'
    return f"<span{kind}>{escape(name)} {'-' if value is None else format(value, '.2g')}</span> "


def _said(said: Said) -> str:
    text = "no answer" if said.reply is None else said.reply.text[:2000]
    beside = " and ".join(path.name for path in said.call.pictures)
    unclear = " (unclear)" if said.reply is not None and said.value is None else ""
    return f"<li>{escape(said.call.question)}, {escape(beside)}: {escape(text)}{unclear}</li>"
