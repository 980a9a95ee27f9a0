"""A picture of merge coefficients by layer."""

from pathlib import Path

import numpy as np

from lorarar.errors import LorararError
from lorarar.files import write_atomically
from lorarar.merge import Coefficients


def plot_coefficients(m: Coefficients, path: Path, force: bool = False) -> None:
    """Draw the median and the 5-95 % band over columns of m_c and m_s for each layer, as a PNG.

    Raises LorararError if matplotlib is missing or `path` exists or cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise LorararError("--plot needs matplotlib; run: pip install 'lorarar[plot]'") from error
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted layer, in the UNet's order", ylabel="coefficient")
    layers = np.arange(len(m))
    for side, label in enumerate(("content, m_c", "style, m_s")):
        low, middle, high = np.array([np.percentile(v[side], (5, 50, 95)) for v in m.values()]).T
        axes.plot(layers, middle, label=label)
        axes.fill_between(layers, low, high, alpha=0.25)
    axes.legend()
    write_atomically(path, lambda file: FigureCanvasAgg(figure).print_png(file), force)
