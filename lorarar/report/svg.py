"""A figure as a file: SVG in the page's colours, light and dark, and PNG."""

import re
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

from lorarar.report.drawing import INK, LINE, QUIET, SERIES, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Drawn in light colours, which PNG keeps; page.css has each of these variables for light and dark.
THEME = {
    "#ffffff": "var(--card)",
    INK: "var(--ink)",
    QUIET: "var(--quiet)",
    LINE: "var(--line)",
} | {colour: f"var(--series-{index})" for index, colour in enumerate(SERIES, 1)}


def to_png(figure: "Figure") -> bytes:
    """Return a figure's PNG file, at twice the page's size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    file = BytesIO()
    with styled():
        FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def to_svg(figure: "Figure", title: str, prefix: str) -> str:
    """Return a figure as an element for HTML: its ids with `prefix`, in the page's colours."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    file = BytesIO()
    with styled(salt=prefix):
        FigureCanvasSVG(figure).print_svg(file)
    text = file.getvalue().decode()
    text = text[text.index("<svg") :]
    for part in ("metadata", "style"):
        text = re.sub(rf"<{part}.*?</{part}>", "", text, count=1, flags=re.DOTALL)
    width, height = figure.get_size_inches() * 72
    head = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
    body = text.partition(">")[2]
    # Letters of a text that would look like a tag are escaped already.
    return head + re.sub(r"<[^>]*>", lambda tag: _themed(tag[0], prefix), body)


def _themed(tag: str, prefix: str) -> str:
    tag = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", tag)
    return re.sub("#[0-9a-f]{6}", lambda colour: THEME.get(colour[0], colour[0]), tag)
