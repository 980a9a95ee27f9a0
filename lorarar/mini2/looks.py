"""How things may look: palette, line, texture and shading, each named or of its own.

The base model sees random looks; the named styles are looks that it never sees.
"""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from lorarar.mini2.textures import TEXTURES

Colour = tuple[float, float, float]
LINES = ("none", "fine", "bold", "pale", "sketchy")
SHADINGS = ("soft", "flat", "cel", "vignette", "glow", "relief")
DARK_LINE, PALE_LINE = (0.1, 0.09, 0.13), (0.98, 0.98, 0.95)


@dataclass(frozen=True)
class Look:
    """palette: colours of sky, ground, body, marking, accessory, dark and light parts, which
    replace the scene's own; body, marking and accessory are but drawn towards it, as a style leaves
    a subject its colours. `palette_name` if it is one of `PALETTES`. line_colour: where it is not
    the line's own."""

    palette: tuple[Colour, ...] | None = None
    line: str = "none"
    line_colour: Colour | None = None
    texture: str = "plain"
    shading: str = "soft"
    palette_name: str = "own"

    @property
    def names(self) -> dict[str, str]:
        """What a caption may call it: its components by kind."""
        return {
            "palette": self.palette_name,
            "line": self.line,
            "texture": self.texture,
            "shading": self.shading,
        }

    @property
    def kind(self) -> tuple[str, str, str]:
        """Line, texture and shading."""
        return self.line, self.texture, self.shading


PLAIN = Look()


def _hex(text: str) -> tuple[Colour, ...]:
    """Colours such as 'ffeedd 001122'."""
    return tuple(
        (int(c[:2], 16) / 255, int(c[2:4], 16) / 255, int(c[4:], 16) / 255) for c in text.split()
    )


def _style(read: dict[str, Any]) -> Look:
    palette, line_colour = read.get("palette"), read.get("line_colour")
    return Look(
        _hex(palette) if palette else None,
        read["line"],
        tuple(line_colour) if line_colour else None,
        read["texture"],
        read["shading"],
    )


_READ = tomllib.loads((files("lorarar.mini2") / "looks.toml").read_text())
PALETTES = {name: _hex(colours) for name, colours in _READ["palettes"].items()}
STYLES: dict[str, Look] = {name: _style(read) for name, read in _READ["styles"].items()}


def random_palette(generator: np.random.Generator) -> tuple[Colour, ...]:
    """Seven colours in which body, marking and accessory can be told from each other and from
    what is behind."""
    while True:
        colours = generator.random((7, 3))
        mood = generator.random(3)
        colours = mood + (colours - mood) * generator.uniform(0.7, 1.0)
        colours[5] *= 0.35
        colours[6] = 1 - (1 - colours[6]) * 0.3
        gaps = np.abs(colours[2:5, None] - colours[None]).sum(-1)
        apart = gaps[0, 3] > 0.7 and gaps[0, 4] > 0.6 and gaps[1, 4] > 0.5
        if apart and gaps[0, 0] > 0.45 and gaps[2, 0] > 0.4:
            return tuple((r, g, b) for r, g, b in colours.tolist())


def _stands_out(palette: tuple[Colour, ...], pale: bool) -> bool:
    """Whether a line can be seen on the body and before the sky."""
    greys = [sum(palette[role]) / 3 for role in (0, 2)]
    return max(greys) < 0.8 if pale else min(greys) > 0.25


TAKEN = {look.kind for look in STYLES.values() if look.palette is None}


def random_look(generator: np.random.Generator) -> Look:
    """Any look but a named style's: styles with colours of their own have palettes that are never
    drawn here, the others a line, texture and shading that never meet without a palette."""
    while True:
        fate = generator.random()
        name, palette = "own", None
        if fate < 0.35:
            name = list(PALETTES)[generator.integers(len(PALETTES))]
            palette = PALETTES[name]
        elif fate < 0.65:
            name, palette = "other", random_palette(generator)
        line = LINES[generator.integers(len(LINES))] if generator.random() < 0.7 else "none"
        colour = None
        if line != "none" and generator.random() < 0.4:
            r, g, b = (generator.random(3) * 0.5).tolist()
            pale = (1 - 0.8 * r, 1 - 0.8 * g, 1 - 0.8 * b)
            colour = pale if line == "pale" else (r, g, b)
        names = list(TEXTURES)
        texture = names[generator.integers(len(names))] if generator.random() < 0.75 else "plain"
        shading = SHADINGS[generator.integers(len(SHADINGS))]
        look = Look(palette, line, colour, texture, shading, name)
        if palette and line != "none" and not _stands_out(palette, line == "pale"):
            continue
        nameless = name in ("own", "other") and look.kind == PLAIN.kind
        if not nameless and not (palette is None and look.kind in TAKEN):
            return look
