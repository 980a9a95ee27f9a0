"""The report's plots, drawn by matplotlib."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lorarar.errors import LorararError
from lorarar.report.words import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK, QUIET, LINE = "#24212b", "#625d6b", "#dcd7ce"
SERIES = (
    "#0b7285",
    "#b0306f",
    "#a3570a",
    "#4a51c4",
    "#39761f",
    "#7a3f8f",
    "#8a6d00",
    "#5b6470",
)
MARKERS = "osD^vPX"  # one fewer than colours, so that both repeat late
WIDTH = 360  # points, about as many as a phone has: text keeps its size there
SIDE, BAR, LABEL, GAP, AXIS, KEY, PLOT = 16, 12, 16, 8, 38, 18, 240  # points
LONGEST = 52  # letters of a label that fit
WIDE = 30  # values that are further apart are drawn on a logarithmic axis
RC = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names may hold dollars
    "font.size": 10.5,
    "axes.edgecolor": LINE,
    "axes.labelcolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "text.color": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Bar:
    """One value with its range; projected: a range that nobody measured, without a value."""

    series: str
    low: float
    high: float
    value: float | None = None
    projected: bool = False


Group = tuple[str, Sequence[Bar]]  # a label, and what stands below it


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


def draw(plot: Plot) -> "Figure":
    """Draw a plot in light colours.

    Raises LorararError if matplotlib is missing.
    """
    with styled():
        return _bars(plot) if isinstance(plot, BarPlot) else _lines(plot)


def describe(plot: Plot) -> str:
    """Say in words what a plot shows, for who cannot see it."""
    if isinstance(plot, LinePlot):
        labels = ", ".join(curve.label for curve in plot.curves)
        return f"{plot.title}: {plot.y} over {plot.x}, of {labels}"
    said = (
        f"{label}{f' ({bar.series})' if bar.series else ''} {_value(bar)}"
        for label, bars in plot.groups
        for bar in bars
    )
    return f"{plot.title}, {plot.unit}: {'; '.join(said)}"


@contextmanager
def styled(**settings: str) -> Iterator[None]:
    """Let matplotlib draw in the report's style.

    Raises LorararError if it is missing.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise LorararError("drawing needs matplotlib; run: pip install 'lorarar[plot]'") from error
    with rc_context(RC | settings), warnings.catch_warnings():
        # Of letters that its own font lacks; the page's has them.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def _bars(plot: BarPlot) -> "Figure":
    from matplotlib.figure import Figure

    series = list(dict.fromkeys(bar.series for _, bars in plot.groups for bar in bars))
    colours = {name: SERIES[index % len(SERIES)] for index, name in enumerate(series)}
    key = KEY * _legend_rows(series) if len(series) > 1 else 0
    body = sum(LABEL + BAR * len(bars) + GAP for _, bars in plot.groups)
    height = key + body + AXIS
    figure = Figure((WIDTH / 72, height / 72), dpi=144)
    axes = figure.add_axes(
        (SIDE / WIDTH, AXIS / height, 1 - 2 * SIDE / WIDTH, body / height),
        xlabel=plot.unit,
        ylim=(body, 0),
        yticks=(),
    )
    axes.spines["left"].set_visible(False)
    start = _set_values(axes, [bar for _, bars in plot.groups for bar in bars])
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    top = 0
    for label, bars in plot.groups:
        axes.text(
            *(0, top + LABEL - 3),
            _label(label),
            transform=axes.get_yaxis_transform(),
            bbox={"facecolor": "none", "edgecolor": "none", "pad": 0},
        )
        for index, bar in enumerate(bars):
            _bar(axes, top + LABEL + BAR * (index + 0.5), bar, start, colours[bar.series])
        top += LABEL + BAR * len(bars) + GAP
    if key:
        handles = [_swatch(colour) for colour in colours.values()]
        _legend(figure, handles, series, loc="upper left")
    return figure


def _set_values(axes: "Axes", bars: Sequence[Bar]) -> float:
    """Scale the axis of values, with room for their text on the right; returns where bars begin."""
    least, most = min(bar.low for bar in bars), max(bar.high for bar in bars)
    if least > 0 and most / least > WIDE:
        axes.set(xscale="log", xlim=(least / 1.5, most * (most / least) ** 0.4))
        _plain_ticks(axes.xaxis)
        return least / 1.5
    axes.set_xlim(min(0, least), (most or 1) * 1.32)
    axes.locator_params(axis="x", nbins=5)
    return 0


def _bar(axes: "Axes", y: float, bar: Bar, start: float, colour: str) -> None:
    if bar.projected:
        width = max(bar.high - bar.low, bar.high * 0.01)
        axes.barh(
            *(y, width, BAR - 3, bar.low),
            facecolor="none",
            edgecolor=colour,
            linestyle=(0, (2.5, 1.5)),
        )
    elif bar.value is not None and axes.get_xscale() == "log":
        axes.plot((start, bar.value), (y, y), color=LINE, linewidth=1.2)
        axes.plot(bar.value, y, "o", color=colour, markersize=6)
    elif bar.value is not None:
        axes.barh(y, bar.value, BAR - 3, color=colour)
    if not bar.projected and bar.high > bar.low:
        axes.plot((bar.low, bar.high), (y, y), "|-", color=INK, linewidth=0.9, markersize=5)
    axes.annotate(
        *(_value(bar), (bar.high, y)),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=9.5,
    )


def _value(bar: Bar) -> str:
    if bar.value is not None:
        return shown(bar.value)
    return f"{shown(bar.low)} to {shown(bar.high)}"


def _lines(plot: LinePlot) -> "Figure":
    from matplotlib.figure import Figure

    labels = [curve.label for curve in plot.curves]
    height = PLOT + KEY * _legend_rows(labels)
    figure = Figure((WIDTH / 72, height / 72), dpi=144, layout="constrained")
    axes = figure.add_subplot(
        xlabel=plot.x, ylabel=plot.y, xscale=plot.scales[0], yscale=plot.scales[1]
    )
    axes.grid()
    axes.set_axisbelow(True)
    coloured = [curve for curve in plot.curves if curve.kind != "roof"]
    handles = []
    for curve in plot.curves:
        if curve.kind == "roof":
            handles += axes.plot(*zip(*curve.points, strict=True), color=INK, linewidth=1.2)
            continue
        index = coloured.index(curve)
        colour, marker = SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]
        handles.append(_curve(axes, curve, colour, marker))
    for axis, scale in zip((axes.xaxis, axes.yaxis), plot.scales, strict=True):
        if scale == "log":
            _plain_ticks(axis)
    _legend(figure, handles, labels, loc="outside lower left")
    return figure


def _plain_ticks(axis: "Axis") -> None:
    """Label a logarithmic axis with plain numbers; also between powers of ten where it is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(10, (1, 3) if high / low < 50 else (1,), numticks=7))
    axis.set_major_formatter(FuncFormatter(_tick))
    axis.set_minor_locator(NullLocator())


def _tick(value: float, _: int) -> str:
    return shown(value) if value >= 1 else f"{value:g}"


def _curve(axes: "Axes", curve: Curve, colour: str, marker: str) -> object:
    if curve.kind == "range":
        x, low, high = zip(*curve.points, strict=True)
        axes.vlines(x, low, high, color=colour, linewidth=1.2, linestyle=(0, (2.5, 1.5)))
        (handle,) = axes.plot(
            *((*x, *x), (*low, *high)),
            marker,
            color=colour,
            markerfacecolor="none",
            markersize=4.5,
        )
        return handle
    style = f"{marker}-" if curve.kind == "line" else marker
    (handle,) = axes.plot(*zip(*curve.points, strict=True), style, color=colour, markersize=5)
    return handle


def _swatch(colour: str) -> object:
    from matplotlib.patches import Patch

    return Patch(color=colour)


def _legend(
    figure: "Figure", handles: Sequence[object], labels: Sequence[str], *, loc: str
) -> None:
    figure.legend(
        handles,
        [_label(label) for label in labels],
        loc=loc,
        ncols=_legend_columns(labels),
        frameon=False,
        handlelength=1.4,
        columnspacing=1,
        borderaxespad=0.2,
        fontsize=9.5,
    )


def _legend_columns(labels: Sequence[str]) -> int:
    return 1 if max(map(len, labels)) > LONGEST // 2 else 2


def _legend_rows(labels: Sequence[str]) -> int:
    return -(-len(labels) // _legend_columns(labels))


def _label(text: str) -> str:
    """Shorten a label; matplotlib leaves those that begin with an underscore out of legends."""
    short = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return f" {short}" if short.startswith("_") else short
