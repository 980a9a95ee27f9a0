"""Plots, drawn by matplotlib."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

from lorarar.errors import LorararError
from lorarar.report.plots import (
    Bar,
    BarPlot,
    Curve,
    LinePlot,
    Plot,
    in_readable_unit,
    value_text,
)
from lorarar.report.words import shown

if TYPE_CHECKING:
    from matplotlib.artist import Artist
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
DASHES = 0, (2.5, 1.5)  # of what is projected
MARKERS = "osD^vPX"  # one fewer than colours, so that both repeat late
WIDTH = 360  # points, about as many as a phone has: text keeps its size there
SIDE, BAR, LABEL, GAP, AXIS, KEY, PLOT = 16, 12, 16, 8, 38, 18, 240  # points
LONGEST = 52  # letters of a label that fit
FEW = 6  # values along x that lines were measured at are all named
WIDE = 30  # values that are further apart are drawn on a logarithmic axis
RC: dict[Any, Any] = {  # any: matplotlib's own type lists every key
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

Corner = Literal["upper left", "outside lower left"]


def draw(plot: Plot) -> "Figure":
    """Draw a plot in light colours.

    Raises LorararError if matplotlib is missing.
    """
    with styled():
        return _bars(in_readable_unit(plot)) if isinstance(plot, BarPlot) else _lines(plot)


@contextmanager
def styled(salt: str | None = None) -> Iterator[None]:
    """Let matplotlib draw in the report's style; salt: of the ids in SVG, random by default.

    Raises LorararError if it is missing.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise LorararError("drawing needs matplotlib; run: pip install 'lorarar[plot]'") from error
    with rc_context(RC | {"svg.hashsalt": salt}), warnings.catch_warnings():
        # Of letters that its own font lacks; the page's has them.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def _bars(plot: BarPlot) -> "Figure":
    from matplotlib.figure import Figure

    series = list(dict.fromkeys(bar.series for _, bars in plot.groups for bar in bars))
    colours = dict(zip(series, cycle(SERIES), strict=False))
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
            0,
            top + LABEL - 3,
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
        axes.set(xscale="log", xlim=(least / 1.5, most * (most / least) ** 0.55))
        _plain_ticks(axes.xaxis)
        return least / 1.5
    left, right = min(0, least), max(0, most)
    axes.set_xlim(left, right + ((right - left) or 1) * 0.32)
    axes.locator_params(axis="x", nbins=5)
    return 0


def _bar(axes: "Axes", y: float, bar: Bar, start: float, colour: str) -> None:
    if bar.projected:
        width = max(bar.high - bar.low, bar.high * 0.01)
        frame = axes.barh(y, width, BAR - 3, bar.low, facecolor="none", edgecolor=colour)
        frame[0].set_linestyle(DASHES)
    elif bar.value is not None and axes.get_xscale() == "log":
        axes.plot((start, bar.value), (y, y), color=LINE, linewidth=1.2)
        axes.plot(bar.value, y, "o", color=colour, markersize=6)
    elif bar.value is not None:
        axes.barh(y, bar.value, BAR - 3, color=colour)
    if not bar.projected and bar.high > bar.low:
        axes.plot((bar.low, bar.high), (y, y), "|-", color=INK, linewidth=0.9, markersize=5)
    axes.annotate(
        value_text(bar),
        (bar.high, y),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=9.5,
    )


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
    looks = zip(cycle(SERIES), cycle(MARKERS), strict=False)
    handles: list[Artist] = []
    for curve in plot.curves:
        if curve.kind == "roof":
            handles += axes.plot(*zip(*curve.points, strict=True), color=INK, linewidth=1.2)
        else:
            handles.append(_curve(axes, curve, *next(looks)))
    points = [point for curve in plot.curves for point in curve.points]
    if plot.scales[0] == "log":
        axes.set_xlim(_around([x for x, *_ in points]))
        _plain_ticks(axes.xaxis)
    if plot.scales[1] == "log":
        axes.set_ylim(_around([y for _, *ys in points for y in ys]))
        _plain_ticks(axes.yaxis)
    measured_at = {x for curve in plot.curves for x, *_ in curve.points if curve.kind == "line"}
    if 0 < len(measured_at) <= FEW:
        axes.set_xticks(sorted(measured_at))
    _legend(figure, handles, labels, loc="outside lower left")
    return figure


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Return a logarithmic axis's ends: a margin around all values, also around a single one."""
    low, high = min(values), max(values)
    margin = 1.2 * (high / low) ** 0.05
    return low / margin, high * margin


def _plain_ticks(axis: "Axis") -> None:
    """Label a logarithmic axis with plain numbers; also between powers of ten where it is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(10, (1, 3) if high / low < 50 else (1,), numticks=7))
    axis.set_major_formatter(FuncFormatter(_tick))
    axis.set_minor_locator(NullLocator())


def _tick(value: float, _: int) -> str:
    return shown(value) if value >= 1 else f"{value:g}"


def _curve(axes: "Axes", curve: Curve, colour: str, marker: str) -> "Artist":
    if curve.kind == "range":
        x, low, high = zip(*curve.points, strict=True)
        axes.vlines(x, low, high, color=colour, linewidth=1.2, linestyle=DASHES)
        (ends,) = axes.plot((*x, *x), (*low, *high), marker, color=colour, markersize=4.5)
        ends.set_markerfacecolor("none")
        return ends
    style = f"{marker}-" if curve.kind == "line" else marker
    (handle,) = axes.plot(*zip(*curve.points, strict=True), style, color=colour, markersize=5)
    return handle


def _swatch(colour: str) -> "Artist":
    from matplotlib.patches import Patch

    return Patch(color=colour)


def _legend(
    figure: "Figure", handles: Sequence["Artist"], labels: Sequence[str], *, loc: Corner
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
