"""The report's chapters: what belongs together, and which plots show it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from lorarar.report.charts import (
    PROJECTED,
    beside_known,
    column_plot,
    curves_of,
    instructions,
    is_check,
    phone_plots,
    scatter,
    shares,
    times,
    titled,
    told_apart,
)
from lorarar.report.plots import Bar, BarPlot, Group, LinePlot, Plot
from lorarar.report.read import Measurement, Row
from lorarar.report.roofline import roofline
from lorarar.report.words import heading

CLAIM = re.compile(r"claim: (.+?) ?: (supported|not supported)(?: \((.+)\))?")
COMPARED = 12  # works between places, at most
WARM = ", warm"  # of a phone, before its heat slows it down


class Claim(NamedTuple):
    """What was claimed, whether the figures support it, and these figures."""

    text: str
    supported: bool
    figures: str


@dataclass(frozen=True)
class Section:
    """One chapter as it is shown. measurements: those whose tables stand below its plots."""

    title: str
    about: str
    plots: Sequence[Plot]
    measurements: Sequence[Measurement]
    claims: Sequence[Claim]


class Chapter(NamedTuple):
    """A kind of section. benchmarks: whose files it shows; none: all files' plots, no tables."""

    title: str
    about: str
    benchmarks: tuple[str, ...]
    plots: Callable[[Sequence[Measurement]], list[Plot]]


def sections_of(measurements: Sequence[Measurement]) -> list[Section]:
    """Return the chapters that have data, in their order; each file's table is in one of them."""
    known = {name for chapter in CHAPTERS for name in chapter.benchmarks}
    sections = []
    for chapter in CHAPTERS:
        shown = [each for each in measurements if each.benchmark in chapter.benchmarks]
        read = shown if chapter.benchmarks else measurements
        plots = [plot for plot in chapter.plots(read) if not plot.empty]
        if shown or plots:
            claims = [claim for each in shown for claim in claims_of(each)]
            sections.append(Section(chapter.title, chapter.about, plots, shown, claims))
    others = [each for each in measurements if each.benchmark not in known]
    if others:
        sections.append(Section("Other measurements", "As they were written.", [], others, []))
    return sections


def claims_of(measurement: Measurement) -> list[Claim]:
    """Read the claims among the notes: 'claim: TEXT: supported (FIGURES)', or 'not supported'."""
    found = [CLAIM.fullmatch(note) for note in measurement.notes]
    return [Claim(each[1], each[2] == "supported", each[3] or "") for each in found if each]


def _headline(measurements: Sequence[Measurement]) -> list[Plot]:
    """Times by place; of the projected phones a plot for each work."""
    places: dict[str, list[Row]] = {}
    for each in measurements:
        for row in each.rows:
            places.setdefault(str(row.get("where") or each.place), []).append(row)
    plots: list[Plot] = []
    projected: list[Row] = []
    for place, rows in places.items():
        if place.startswith(PROJECTED):
            projected += rows
        else:
            plots.append(BarPlot(f"Merging a pair, {place}", "ms", times(rows)))
            plots.append(instructions(rows, place))
    return [*plots, *phone_plots(projected, "name", lambda row: str(row["where"]))]


def _projection(measurements: Sequence[Measurement]) -> list[Plot]:
    """What checks the projection, then a plot for each work: every phone's ranges."""
    rows = [row for each in measurements for row in each.rows]
    checks = [row for row in rows if is_check(row)]
    works = [row for row in rows if not is_check(row)]
    held = BarPlot("The projection beside what is known", "ms", beside_known(checks))
    return [held, *phone_plots(works, "work", lambda row: str(row.get("phone") or row["name"]))]


def _latency(measurements: Sequence[Measurement]) -> list[Plot]:
    """The same in several places, merges by form and engine, and pipelines' steps and swaps."""
    plots: list[Plot] = [BarPlot("The same in several places", "ms", _compared(measurements))]
    for each in measurements:
        if each.benchmark == "merge_latency":
            plots.append(BarPlot(f"Merging a pair, {titled(each)}", "ms", times(each.rows)))
        else:
            plots += [
                BarPlot(f"Drawing, {each.place}", "ms", times(each.rows)),
                column_plot(each, "A step", "step", "ms"),
                column_plot(each, "A picture", "picture", "ms"),
                column_plot(each, "Another LoRA or pair put in", ("swap", "pair"), "ms"),
                column_plot(each, "Loading, and the first step", ("load", "first"), "ms"),
                column_plot(each, "Most memory held", "peak", "mb"),
            ]
        plots.append(instructions(each.rows, each.place))
    return plots


def _compared(measurements: Sequence[Measurement]) -> list[Group]:
    """What was measured in several places, a bar for each place."""
    groups: dict[str, list[Bar]] = {}
    for each in measurements:
        for name, (bar,) in times(each.rows):
            name = name.removesuffix(WARM)
            groups.setdefault(name, []).append(replace(bar, series=titled(each)))
    several = [item for item in groups.items() if len({bar.series for bar in item[1]}) > 1]
    return several[:COMPARED]


def _scaling(measurements: Sequence[Measurement]) -> list[Plot]:
    """Time, what is held and what a merge takes besides, over each thing that varies."""
    plots: list[Plot] = []
    for each in measurements:
        for varies in dict.fromkeys(str(row.get("varies")) for row in each.rows):
            rows = [row for row in each.rows if str(row.get("varies")) == varies]
            for column, title in (
                ("median_ms", "Time of a merge"),
                ("held_megabytes", "LoRAs held"),
                ("peak_megabytes", "Memory of a merge"),
            ):
                curves = curves_of(rows, label="form", x="value", y=column)
                plots.append(LinePlot(f"{title} by {varies}", varies, heading(column), curves))
    return plots


def _quality(measurements: Sequence[Measurement]) -> list[Plot]:
    """How close or right pictures are, over a model's size and a merge's time."""
    plots: list[Plot] = []
    for each in measurements:
        if each.benchmark == "exported_quality":
            close = "Closeness to float32"
            columns = {"x": "mb", "y": "median_psnr_db"}
            plots += [
                scatter(each, f"{close}, by size", **columns, scales=("linear", "linear")),
                column_plot(each, close, ("median", "lowest"), "db"),
            ]
        elif each.benchmark == "export_size":
            columns = {"x": "unet_gb", "y": "error"}
            plots += [
                scatter(each, "A step's error, by size", **columns, scales=("linear", "log")),
                column_plot(each, "A step", "step", "s"),
                column_plot(each, "Another pair put in", ("first_swap", "swap"), "ms"),
            ]
        else:
            right, columns = "Subject and style right", {"x": "merge_ms", "y": "both"}
            plots += [
                BarPlot(f"{right}, share of pictures", "share", shares(each.rows, "both")),
                scatter(each, f"{right}, by merging time", **columns, scales=("log", "linear")),
            ]
    return plots


def _peers(measurements: Sequence[Measurement]) -> list[Plot]:
    """Every peer's steps, swaps, memory and closeness, in whichever unit they are."""
    wanted: tuple[tuple[str, str | tuple[str, ...], tuple[str, ...]], ...] = (
        ("A step", "step", ("ms", "s")),
        ("Another pair put in", ("swap", "pair", "first_swap"), ("ms", "s")),
        ("Most memory held", "peak", ("mb", "megabytes", "gb")),
        ("Closeness of the picture", "", ("db",)),
    )
    return [
        column_plot(each, title, start, unit)
        for each in measurements
        for title, start, units in wanted
        for unit in units
    ]


def _baked(measurements: Sequence[Measurement]) -> list[Plot]:
    """What few bits leave of a LoRA: in pictures, or over the LoRA's size."""
    plots: list[Plot] = []
    for each in measurements:
        for kind in dict.fromkeys(row.get("kind") for row in each.rows if "right" in row):
            rows = [{**row, "kind": None} for row in each.rows if row.get("kind") == kind]
            plots += [
                BarPlot(f"Found right, {kind} LoRAs", "share of pictures", shares(rows, "right")),
                BarPlot(f"Closeness to float32, {kind} LoRAs", "dB", shares(rows, "psnr_db")),
            ]
        rows = [{**row, "form": told_apart(row)} for row in each.rows if "right" not in row]
        for column, title in (
            ("survives", "What survives of a LoRA"),
            ("error", "Error of the weights"),
        ):
            curves = curves_of(rows, label="form", x="change_percent", y=column)
            x = "size of the LoRA, % of the weights"
            plots.append(LinePlot(title, x, heading(column), curves, ("log", "linear")))
    return plots


CHAPTERS = (
    Chapter(
        "Headline",
        "Merging a pair in every form: ZipLoRA, LoRA.rar as published, and ours. What is filled "
        "was measured; what is hollow and dashed is projected from counted work.",
        ("headline",),
        _headline,
    ),
    Chapter(
        "Projected phones",
        "Ranges from counted work and what is published of each phone. They are projections, "
        "hollow and dashed: nobody measured them.",
        ("projection",),
        _projection,
    ),
    Chapter(
        "Latency",
        "Medians; the thin line runs from the fastest round to the slowest. Where times are far "
        "apart the axis is logarithmic.",
        ("merge_latency", "pipeline_latency"),
        _latency,
    ),
    Chapter(
        "Roofline",
        "Speed over work per byte. On the slope memory is the limit, on the flat part arithmetic. "
        "What is hollow and dashed is projected, not measured; phones that do the same work are "
        "drawn a little apart.",
        (),
        roofline,
    ),
    Chapter(
        "Scaling",
        "How a merge's time and memory grow. Both axes are logarithmic.",
        ("scaling",),
        _scaling,
    ),
    Chapter(
        "Quality against size",
        "What fewer bits cost in the picture, and what each merging method draws.",
        ("exported_quality", "export_size", "quality"),
        _quality,
    ),
    Chapter(
        "Beside the peers",
        "The same work by what people use instead, on the same machine in one run.",
        ("peers",),
        _peers,
    ),
    Chapter(
        "LoRAs baked into few bits",
        "What is left of a LoRA that is baked into quantised weights, beside ours at run time.",
        ("baked",),
        _baked,
    ),
)
