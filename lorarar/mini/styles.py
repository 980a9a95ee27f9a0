"""How it is drawn: a style turns a map of roles into a picture."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

Colour = tuple[float, float, float]
Array = np.ndarray
Pixels = np.ndarray  # (size, size, 3), RGB in [0, 1]


@dataclass(frozen=True)
class Style:
    """palette: colours of background, ground, body, marking, accessory and detail, which replace
    the scene's own by the share `strength`. line: outline colour; line_width: in 1/64 of the side.
    texture: a key of `TEXTURES`. round: how much darker things get toward the lower right.
    """

    palette: tuple[Colour, ...] | None = None
    strength: float = 1.0
    line: Colour | None = None
    line_width: float = 1.0
    texture: str = "flat"
    round: float = 0.0


def render(labels: np.ndarray, colours: np.ndarray, style: Style, seed: int) -> Pixels:
    """Paint a map of roles, (size, size) int, whose own colours are (6, 3).

    seed: of the texture's noise.
    """
    size = len(labels)
    if style.palette is not None:
        colours = colours + style.strength * (np.array(style.palette) - colours)
    pixels = colours[labels]
    y, x = np.mgrid[:size, :size] * (64 / size)
    pixels = TEXTURES[style.texture](pixels, labels, x, y, np.random.default_rng(seed))
    if style.round:
        pixels = pixels * (1 - style.round * ((x + y) / 128 - 0.25).clip(0))[..., None]
    if style.line is not None:
        edges = _outline(labels, max(1, round(style.line_width * size / 64)))
        pixels = np.where(edges[..., None], np.array(style.line), pixels)
    return pixels.clip(0, 1)


def _outline(labels: np.ndarray, width: int) -> np.ndarray:
    """True within `width` pixels of where the role changes."""
    edges = np.zeros(labels.shape, bool)
    for offset in range(1, width + 1):
        for axis in (0, 1):
            edges |= np.roll(labels, offset, axis) != labels
    return edges


def flat(pixels: Pixels, labels: Array, x: Array, y: Array, generator: Generator) -> Pixels:
    """Nothing but the colours."""
    return pixels


def hatch(pixels: Pixels, labels: Array, x: Array, y: Array, generator: Generator) -> Pixels:
    """Diagonal strokes, closer on darker things."""
    dark = pixels.mean(-1) < 0.55
    strokes = np.where(dark, (x + y) % 4 < 1.2, (x + y) % 8 < 1.2)
    return np.where((strokes & (labels > 0))[..., None], pixels * 0.35, pixels)


def scan(pixels: Pixels, labels: Array, x: Array, y: Array, generator: Generator) -> Pixels:
    """Horizontal lines over everything."""
    return np.where((y % 4 < 2)[..., None], pixels, pixels * 0.55)


def weave(pixels: Pixels, labels: Array, x: Array, y: Array, generator: Generator) -> Pixels:
    """A cloth of crossing threads."""
    lit = ((x // 2).astype(int) + (y // 2).astype(int)) % 2 == 0
    return np.where(lit[..., None], pixels, 0.7 * pixels + 0.2)


def dots(pixels: Pixels, labels: Array, x: Array, y: Array, generator: Generator) -> Pixels:
    """Dots of colour on white, larger on darker things."""
    radius = 2.9 - 1.5 * pixels.mean(-1)
    inside = (x % 5 - 2.5) ** 2 + (y % 5 - 2.5) ** 2 < radius**2
    return np.where(inside[..., None], pixels, 0.96)


def tiles(pixels: Pixels, labels: Array, x: Array, y: Array, generator: Generator) -> Pixels:
    """Square tiles, 8/64 of the side wide, with pale joints."""
    joint = (x % 8 < 1) | (y % 8 < 1)
    return np.where(joint[..., None], 0.85, pixels)


def grain(pixels: Pixels, labels: Array, x: Array, y: Array, generator: Generator) -> Pixels:
    """Coarse noise, as of chalk on paper."""
    size = len(labels)
    noise = generator.random((32, 32)).repeat(size // 32, 0).repeat(size // 32, 1)
    return pixels + (noise[..., None] - 0.5) * 0.45


def wash(pixels: Pixels, labels: Array, x: Array, y: Array, generator: Generator) -> Pixels:
    """Colours that run into each other and fade to paper."""
    reach = max(1, len(labels) // 64)
    for axis in (0, 1):
        for _ in range(2):
            rolled = [np.roll(pixels, k * reach, axis) for k in (-1, 0, 1)]
            pixels = (rolled[0] + rolled[1] + rolled[2]) / 3
    return 0.35 + 0.65 * pixels


TEXTURES = {f.__name__: f for f in (flat, hatch, scan, weave, dots, tiles, grain, wash)}

WHITE, BLACK, CREAM = (1.0, 1.0, 1.0), (0.05, 0.05, 0.08), (0.95, 0.9, 0.75)


STYLES: dict[str, Style] = {
    "ink": Style((WHITE, WHITE, WHITE, (0.75,) * 3, (0.55,) * 3, BLACK), line=BLACK),
    "blueprint": Style(
        (
            (0.05, 0.15, 0.5),
            (0.05, 0.2, 0.6),
            (0.05, 0.15, 0.5),
            (0.2, 0.4, 0.8),
            (0.5, 0.7, 1.0),
            (0.7, 0.85, 1.0),
        ),
        line=WHITE,
    ),
    "neon": Style(
        (
            BLACK,
            (0.1, 0.0, 0.2),
            (0.15, 0.0, 0.3),
            (1.0, 0.1, 0.8),
            (0.1, 1.0, 0.9),
            (1.0, 1.0, 0.1),
        ),
        line=(0.1, 1.0, 0.4),
    ),
    "sepia": Style(
        (
            CREAM,
            (0.85, 0.75, 0.55),
            (0.6, 0.42, 0.25),
            (0.35, 0.22, 0.1),
            (0.78, 0.6, 0.4),
            (0.2, 0.1, 0.05),
        ),
        texture="grain",
        round=0.6,
    ),
    "woodcut": Style(
        (CREAM, (0.6, 0.5, 0.35), (0.75, 0.3, 0.2), CREAM, (0.2, 0.3, 0.25), BLACK),
        line=BLACK,
        line_width=1.5,
        texture="hatch",
    ),
    "halftone": Style(
        (
            (0.95, 0.85, 0.3),
            (0.9, 0.6, 0.2),
            (0.9, 0.1, 0.3),
            (0.1, 0.4, 0.8),
            (0.1, 0.1, 0.3),
            BLACK,
        ),
        texture="dots",
    ),
    "tiled": Style(strength=0, texture="tiles", round=0.4),
    "watercolour": Style(strength=0, texture="wash"),
    "tv": Style(
        (
            (0.1, 0.25, 0.15),
            (0.1, 0.35, 0.2),
            (0.3, 0.8, 0.4),
            (0.1, 0.45, 0.2),
            (0.7, 1.0, 0.7),
            (0.0, 0.15, 0.05),
        ),
        texture="scan",
    ),
    "tapestry": Style(
        (
            (0.45, 0.1, 0.15),
            (0.3, 0.1, 0.1),
            (0.85, 0.65, 0.25),
            (0.2, 0.3, 0.25),
            (0.9, 0.85, 0.7),
            (0.15, 0.05, 0.1),
        ),
        texture="weave",
    ),
    "candy": Style(
        (
            (1.0, 0.85, 0.92),
            (0.8, 0.95, 0.9),
            (0.98, 0.5, 0.7),
            (0.6, 0.85, 1.0),
            (1.0, 0.95, 0.5),
            (0.7, 0.4, 0.8),
        ),
        line=WHITE,
        line_width=2,
    ),
    "stained": Style(
        (
            (0.2, 0.5, 0.8),
            (0.1, 0.6, 0.4),
            (0.9, 0.2, 0.2),
            (0.95, 0.75, 0.1),
            (0.6, 0.2, 0.7),
            (0.1, 0.2, 0.4),
        ),
        line=BLACK,
        line_width=2,
    ),
    "dusk": Style(
        (
            (0.95, 0.5, 0.25),
            (0.4, 0.15, 0.3),
            (0.2, 0.05, 0.2),
            (0.5, 0.1, 0.3),
            (0.05, 0.02, 0.1),
            (0.98, 0.8, 0.4),
        ),
        round=0.5,
    ),
    "frost": Style(
        (
            (0.85, 0.93, 1.0),
            (0.75, 0.85, 0.95),
            (0.5, 0.7, 0.9),
            (0.9, 0.97, 1.0),
            (0.3, 0.5, 0.8),
            (0.15, 0.3, 0.55),
        ),
        texture="grain",
    ),
    "chalk": Style(
        (
            (0.12, 0.2, 0.16),
            (0.16, 0.26, 0.2),
            (0.12, 0.2, 0.16),
            (0.75, 0.75, 0.65),
            (0.9, 0.8, 0.5),
            (0.85, 0.85, 0.85),
        ),
        line=(0.9, 0.9, 0.85),
        line_width=1.5,
        texture="grain",
    ),
    "comic": Style(strength=0, line=BLACK, line_width=2, texture="hatch"),
}

PLAIN = Style()


def random_style(generator: np.random.Generator) -> Style:
    """Any rendering at all."""
    palette = tuple(tuple(colour) for colour in generator.random((6, 3)))
    outlined = generator.random() < 0.5
    return Style(
        palette,
        strength=float(generator.uniform(0, 1)),
        line=tuple(generator.random(3)) if outlined else None,
        line_width=float(generator.uniform(1, 3)),
        texture=str(generator.choice(list(TEXTURES))),
        round=float(generator.choice([0, 0.6])),
    )
