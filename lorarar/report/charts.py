"""From a measurement's rows to bars and curves; columns and values that are absent are left out."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from lorarar.report.plots import Bar, BarPlot, Curve, Group, LinePlot, Plot, Scale
from lorarar.report.read import Measurement, Row, number
from lorarar.report.words import heading, unit_of

ENGINES = "runner", "numpy", "onnxruntime", "executorch", "torch", "coreml", "openvino"
PROJECTED = "projected: "  # how the name of a place begins where nobody measured
TELLING = "kind", "bits", "dtype", "threads"  # columns that tell rows of one name apart


def titled(measurement: Measurement) -> str:
    """Name the base model and dtype, as far as they are known, and the place."""
    said = (measurement.settings.get(key) for key in ("base", "dtype"))
    return ", ".join([*(str(each) for each in said if each), measurement.place])


def told_apart(row: Row, columns: Sequence[str] = TELLING) -> str:
    """Return a row's name with what else tells it from others of this name."""
    about = (
        f"{row[key]} bits" if key == "bits" else str(row[key])
        for key in columns
        if row.get(key) is not None
    )
    return ", ".join([str(row["name"]), *about])


def times(rows: Iterable[Row]) -> list[Group]:
    """Return each row's median with its smallest and largest, in its engine's colour."""
    groups = []
    for row in rows:
        bar = ranged(row, "median_ms", "min_ms", "max_ms", engine_of(str(row["name"])))
        if bar:
            groups.append((told_apart(row), [bar]))
    return groups


def shares(rows: Iterable[Row], column: str) -> list[Group]:
    """Return each row's value with the interval that stands beside it, if one does."""
    groups = []
    for row in rows:
        bar = ranged(row, column, f"{column}_low", f"{column}_high")
        if bar:
            groups.append((told_apart(row), [bar]))
    return groups


def ranged(row: Row, value: str, low: str, high: str, series: str = "") -> Bar | None:
    """Return a row's bar, None without its value; ends that are absent are the value."""
    middle = number(row, value)
    if middle is None:
        return None
    ends = [middle if end is None else end for end in (number(row, low), number(row, high))]
    return Bar(series, min(middle, *ends), max(middle, *ends), middle)


def engine_of(name: str) -> str:
    """Find the engine in a row's name, the runner before what it runs; "no engine" if none is."""
    parts = re.split(r"[ ,]+", name)
    return next((engine for engine in ENGINES if engine in parts), "no engine")


def instructions(rows: Iterable[Row], place: str) -> BarPlot:
    """Draw what was counted, in millions."""
    groups = []
    for row in rows:
        count = number(row, "instructions")
        if count is not None:
            millions = count / 1e6
            bar = Bar(engine_of(str(row["name"])), millions, millions, millions)
            groups.append((told_apart(row), [bar]))
    return BarPlot(f"Instructions, {place}", "millions of instructions", groups)


def column_plot(
    measurement: Measurement, title: str, start: str | tuple[str, ...], unit: str
) -> BarPlot:
    """Draw all columns of numbers that begin and end so (unit: 'ms'), a colour for each."""
    every = dict.fromkeys(key for row in measurement.rows for key in row)
    columns = [key for key in every if key.startswith(start) and key.endswith(f"_{unit}")]
    groups = []
    for row in measurement.rows:
        bars = [
            Bar(column.removesuffix(f"_{unit}").replace("_", " "), value, value, value)
            for column in columns
            if (value := number(row, column)) is not None
        ]
        if bars:
            groups.append((told_apart(row), bars))
    return BarPlot(f"{title}, {measurement.place}", unit_of(unit), groups)


def curves_of(
    rows: Iterable[Row],
    *,
    label: str,
    x: str,
    y: str,
    kind: Literal["line", "points"] = "line",
) -> list[Curve]:
    """Return a curve for each value of the column `label`, of the points above 0, sorted."""
    points: dict[str, list[tuple[float, ...]]] = {}
    for row in rows:
        across, up = number(row, x), number(row, y)
        if across and up and min(across, up) > 0:  # axes may be logarithmic
            points.setdefault(str(row.get(label) or row["name"]), []).append((across, up))
    return [Curve(name, sorted(each), kind) for name, each in points.items()]


def scatter(
    measurement: Measurement, title: str, *, x: str, y: str, scales: tuple[Scale, Scale]
) -> LinePlot:
    """Draw each row as a point."""
    points = curves_of(measurement.rows, label="name", x=x, y=y, kind="points")
    return LinePlot(title, heading(x), heading(y), points, scales)


def phone_plots(rows: Sequence[Row], key: str, phone: Callable[[Row], str]) -> list[Plot]:
    """Draw a plot for each value of the column `key`: a group of ranges for each phone."""
    works: dict[str, dict[str, list[Bar]]] = {}
    for row in rows:
        bar = projected(row, str(row.get("processor") or ""))
        if bar:
            phones = works.setdefault(str(row.get(key) or row["name"]), {})
            phones.setdefault(phone(row).removeprefix(PROJECTED), []).append(bar)
    return [
        BarPlot(f"Projected: {work}", "ms, projected", list(phones.items()))
        for work, phones in works.items()
    ]


def projected(row: Row, series: str = "") -> Bar | None:
    """Return the range that a row projects, None if it is measured."""
    low, high = number(row, "low_ms"), number(row, "high_ms")
    if low is None or high is None:
        return None
    return Bar(series, min(low, high), max(low, high), projected=True)


def is_check(row: Row) -> bool:
    """Whether a row's projection is held against a time that is known."""
    return number(row, "known_ms") is not None


def beside_known(rows: Iterable[Row]) -> list[Group]:
    """Return each row's projected range above the time that was measured or published."""
    groups = []
    for row in rows:
        bar, known = projected(row, "projected"), number(row, "known_ms")
        if bar and known is not None:
            name = str(row["name"]).removeprefix("check: ")
            groups.append((name, [bar, Bar("known", known, known, known)]))
    return groups
