"""The report's page: one HTML file that needs nothing else."""

import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lorarar.errors import LorararError
from lorarar.files import LISTING, refuse_existing, write_atomically, write_folder_atomically
from lorarar.report.drawing import draw
from lorarar.report.plots import Plot, describe
from lorarar.report.read import Measurement, Row, read_measurements
from lorarar.report.sections import CLAIM, Section, sections_of
from lorarar.report.svg import to_png, to_svg
from lorarar.report.words import heading, shown, shown_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("page.css")
LONG = 16  # rows; longer tables are folded
MANY = 12  # plots of a chapter; those beyond are folded
SCRIPTS = {  # that write each kind of file, as they are run
    "merge_latency",
    "pipeline_latency",
    "headline",
    "projection",
    "scaling",
    "exported_quality",
    "export_size",
    "quality",
    "ablations",
    "training_memory",
    "peers",
    "baked",
}


class Written(NamedTuple):
    """What was written: how many measurements, and plots."""

    measurements: int
    plots: int


def write_report(
    paths: Sequence[Path], output: Path, plots: Path | None = None, force: bool = False
) -> Written:
    """Write one page of all these measurements, and the folder `plots` with each plot as PNG.

    Raises LorararError if a file is no measurement or is given twice, if matplotlib is missing,
    or if what is to be written exists and may not be replaced; then nothing is written.
    """
    refuse_existing(output, force)
    if plots is not None:
        refuse_existing(plots, force)
        if plots.resolve() == output.resolve():
            raise LorararError(f"{plots}: is the page's file, too; name a folder for the plots")
    measurements = read_measurements(paths)
    sections = sections_of(measurements)
    drawn = [[(plot, draw(plot)) for plot in section.plots] for section in sections]
    page = "".join(_page(sections, [_plots(each, n) for n, each in enumerate(drawn, 1)]))
    every = [each for section in drawn for each in section]
    if plots is not None:
        pictures = {
            f"{number:02d}-{_slug(plot.title)}.png": to_png(figure)
            for number, (plot, figure) in enumerate(every, 1)
        }
        write_folder_atomically(plots, lambda folder: _fill(folder, pictures), force)
    write_atomically(output, lambda file: file.write(page.encode()), force)
    return Written(len(measurements), len(every))


def _fill(folder: Path, pictures: dict[str, bytes]) -> None:
    """Write the plots, and the list of them by which --force knows the folder as ours."""
    for name, picture in pictures.items():
        (folder / name).write_bytes(picture)
    (folder / LISTING).write_text(json.dumps({"files": list(pictures)}, indent=1))


def _slug(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")[:80]


def _page(sections: Sequence[Section], plots: Sequence[str]) -> Iterator[str]:
    places = dict.fromkeys(each.place for section in sections for each in section.measurements)
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Whatever a file says, the page fetches and runs nothing.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:\">\n"
        '<title>lorarar, measured</title>\n<link rel="icon" href="data:,">\n'
        f"<style>\n{STYLE.read_text('utf-8')}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>lorarar, measured</h1>\n<p>on {escape('; '.join(places))}</p>\n</header>\n"
    )
    links = (
        f'<li><a href="#chapter-{number}">{escape(section.title)}</a></li>'
        for number, section in enumerate(sections, 1)
    )
    yield f'<nav aria-label="Chapters"><ul>{"".join(links)}</ul></nav>\n<main>\n'
    for number, (section, drawn) in enumerate(zip(sections, plots, strict=True), 1):
        yield f'<section id="chapter-{number}">\n<h2>{escape(section.title)}</h2>\n'
        yield f"<p>{escape(section.about)}</p>\n"
        yield from _claims(section)
        yield drawn
        for measurement in section.measurements:
            yield from _measurement(measurement)
        yield "</section>\n"
    yield "</main>\n</body>\n</html>\n"


def _claims(section: Section) -> Iterator[str]:
    if not section.claims:
        return
    yield '<ul class="claims">\n'
    for claim in section.claims:
        verdict = "supported" if claim.supported else "not supported"
        figures = f" <small>{escape(claim.figures)}</small>" if claim.figures else ""
        yield (
            f'<li class="{"yes" if claim.supported else "no"}"><strong>{verdict}</strong> '
            f"<span>{escape(claim.text)}{figures}</span></li>\n"
        )
    yield "</ul>\n"


def _plots(drawn: Sequence[tuple[Plot, "Figure"]], chapter: int) -> str:
    """All plots of a chapter, those beyond `MANY` folded."""
    figures = [
        f"<figure>\n<figcaption>{escape(plot.title)}</figcaption>\n"
        f"{to_svg(figure, describe(plot), f'plot-{chapter}-{number}')}</figure>\n"
        for number, (plot, figure) in enumerate(drawn, 1)
    ]
    shown, folded = (_grid(each) for each in (figures[:MANY], figures[MANY:]))
    if folded:
        shown += _folded(f"{len(figures) - MANY} more plots", folded)
    return shown


def _grid(figures: Sequence[str]) -> str:
    return f'<div class="plots">\n{"".join(figures)}</div>\n' if figures else ""


def _folded(summary: str, content: str) -> str:
    return f"<details>\n<summary>{summary}</summary>\n{content}</details>\n"


def _measurement(measurement: Measurement) -> Iterator[str]:
    """One file: where it was measured and how, its table, its notes."""
    name = escape(measurement.benchmark)
    yield f"<article>\n<h3>{name}, {escape(measurement.place)}</h3>\n"
    yield f'<p class="facts"><span>file <b>{escape(measurement.source)}</b></span>'
    if measurement.benchmark in SCRIPTS:
        yield f" <span>by <b>python benchmarks/{name}.py</b></span>"
    machine = measurement.machine
    if measurement.is_elsewhere:
        machine = {f"host_{key}": value for key, value in machine.items()}
    yield "".join(map(_facts, (measurement.settings, measurement.device, machine)))
    yield "</p>\n"
    table = "".join(_table(measurement))
    if len(measurement.rows) > LONG:
        table = _folded(f"{len(measurement.rows)} rows", table)
    yield table
    notes = [note for note in measurement.notes if not CLAIM.fullmatch(note)]
    if notes:
        yield f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>\n'
    yield "</article>\n"


def _facts(facts: Row) -> str:
    return "".join(
        f" <span>{escape(heading(key))} <b>{escape(shown(value))}</b></span>"
        for key, value in facts.items()
    )


def _table(measurement: Measurement) -> Iterator[str]:
    """Every column that any row has, names first; it scrolls inside itself."""
    rows = measurement.rows
    every = dict.fromkeys(key for row in rows for key in row)
    columns = {
        key: ' class="text"' if any(isinstance(row.get(key), str) for row in rows) else ""
        for key in every
        if key != "name"
    }
    heads = "".join(
        f'<th scope="col"{kind}>{escape(heading(column))}</th>' for column, kind in columns.items()
    )
    label = escape(f"{measurement.benchmark}, {measurement.source}")
    yield f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">\n<table>\n'
    yield f'<thead><tr><th scope="col">name</th>{heads}</tr></thead>\n<tbody>\n'
    for row in rows:
        cells = "".join(
            f"<td{kind}>{escape(shown_in(column, row.get(column)))}</td>"
            for column, kind in columns.items()
        )
        yield f'<tr><th scope="row">{escape(str(row["name"]))}</th>{cells}</tr>\n'
    yield "</tbody>\n</table>\n</div>\n"
