"""Pictures: merge coefficients by layer, losses by step, grids of what was drawn."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lorarar.errors import LorararError
from lorarar.files import write_atomically
from lorarar.merge import Coefficients

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_coefficients(m: Coefficients, path: Path, force: bool = False) -> None:
    """Draw the median and the 5-95 % band over columns of m_c and m_s for each layer, as a PNG.

    Raises LorararError if matplotlib is missing or `path` exists or cannot be written.
    """
    figure = _figure()
    axes = figure.add_subplot(xlabel="predicted layer, in the UNet's order", ylabel="coefficient")
    layers = np.arange(len(m))
    for side, label in enumerate(("content, m_c", "style, m_s")):
        low, middle, high = np.array([np.percentile(v[side], (5, 50, 95)) for v in m.values()]).T
        axes.plot(layers, middle, label=label)
        axes.fill_between(layers, low, high, alpha=0.25)
    axes.legend()
    _write(figure, path, force)


def plot_losses(log: Path, path: Path) -> None:
    """Draw the losses in a training's JSON lines, replacing an older picture.

    Raises LorararError if matplotlib is missing or `path` cannot be written.
    """
    figure = _figure()
    axes = figure.add_subplot(xlabel="step", ylabel="loss", yscale="log")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for what in ("loss", "validation"):
        points = [(line["step"], line[what]) for line in lines if what in line]
        if points:
            axes.plot(*zip(*points, strict=True), label=what)
    axes.legend()
    _write(figure, path, force=True)


def plot_pictures(
    rows: Mapping[str, Sequence[np.ndarray]],
    columns: Sequence[str],
    path: Path,
    force: bool = False,
) -> None:
    """Draw a labelled grid of pictures, each (side, side, 3) in [0, 1], as a PNG.

    rows: each row's label and its pictures, one per column.

    Raises LorararError if matplotlib is missing or `path` exists or cannot be written.
    """
    figure = _figure((1.3 * len(columns) + 1, 1.3 * len(rows) + 0.3))
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes, (label, pictures) in zip(grid, rows.items(), strict=True):
        axes[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for each, picture in zip(axes, pictures, strict=True):
            each.imshow(picture, interpolation="nearest")
            each.set(xticks=(), yticks=())
    for each, column in zip(grid[0], columns, strict=True):
        each.set_title(column, fontsize="medium")
    _write(figure, path, force)


def _figure(inches: tuple[float, float] = (10, 4)) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise LorararError("drawing needs matplotlib; run: pip install 'lorarar[plot]'") from error
    return Figure(figsize=inches, layout="constrained")


def _write(figure: "Figure", path: Path, force: bool) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    write_atomically(path, lambda file: FigureCanvasAgg(figure).print_png(file), force)
