"""What a plot shows, before it is drawn: bars in groups, and curves or points over x."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lorarar.report.words import shown

MINUTE = 60_000  # milliseconds


@dataclass(frozen=True)
class Bar:
    """One value with its range; projected: a range that nobody measured, without a value."""

    series: str
    low: float
    high: float
    value: float | None = None
    projected: bool = False


Group = tuple[str, list[Bar]]  # a label, and what stands below it


@dataclass(frozen=True)
class BarPlot:
    """Groups of bars on one axis from zero, or a logarithmic one where they are far apart."""

    title: str
    unit: str
    groups: Sequence[Group]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.groups


Scale = Literal["linear", "log"]


@dataclass(frozen=True)
class Curve:
    """points: (x, y), or (x, low, high) of a projected range."""

    label: str
    points: Sequence[tuple[float, ...]]
    kind: Literal["line", "points", "range", "roof"] = "line"


@dataclass(frozen=True)
class LinePlot:
    """Curves or points over x; both axes logarithmic unless said otherwise."""

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    scales: tuple[Scale, Scale] = ("log", "log")

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.curves


Plot = BarPlot | LinePlot


def in_readable_unit(plot: BarPlot) -> BarPlot:
    """Count in seconds where milliseconds go beyond a minute."""
    highest = max((bar.high for _, bars in plot.groups for bar in bars), default=0)
    if plot.unit != "ms" or highest < MINUTE:
        return plot
    groups = [(label, [_in_seconds(bar) for bar in bars]) for label, bars in plot.groups]
    return BarPlot(plot.title, "s", groups)


def _in_seconds(bar: Bar) -> Bar:
    value = None if bar.value is None else bar.value / 1000
    return replace(bar, low=bar.low / 1000, high=bar.high / 1000, value=value)


def describe(plot: Plot) -> str:
    """Say in words what a plot shows, for who cannot see it."""
    if isinstance(plot, LinePlot):
        labels = ", ".join(curve.label for curve in plot.curves)
        return f"{plot.title}: {plot.y} over {plot.x}, of {labels}"
    plot = in_readable_unit(plot)
    said = (
        f"{label}{f' ({bar.series})' if bar.series else ''} {value_text(bar)}"
        for label, bars in plot.groups
        for bar in bars
    )
    return f"{plot.title}, {plot.unit}: {'; '.join(said)}"


def value_text(bar: Bar) -> str:
    """Write what a bar says: its value, or the range that is projected."""
    if bar.value is not None:
        return shown(bar.value)
    return f"{shown(bar.low)} to {shown(bar.high)}"
