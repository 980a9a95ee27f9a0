"""Where things stand: backgrounds with depth, painted into a map of roles.

Each place is a function of a generator that yields (points, role) from back to front; x and y lie
in [-1, 1], y down.
"""

from collections.abc import Callable, Iterator

import numpy as np

from lorarar.mini2.shapes import Points, box, ellipse, polygon
from lorarar.mini2.things import DARK, FAR, GROUND, LIGHT, SKY, TUFT

Layers = Iterator[tuple[Points, int]]
HORIZON = 0.32
Generator = np.random.Generator


def _ridge(generator: Generator, y: float, height: float, step: float = 0.2) -> Points:
    """Ground below a wavy line."""
    x = np.arange(-1.2, 1.3, step)
    phase, pace = generator.uniform(0, 6.3), generator.uniform(2.0, 3.5)
    line = y - height * (np.sin(x * pace + phase) + 0.4 * np.sin(2.3 * x * pace + 2 * phase))
    return np.concatenate([np.stack([x, line], 1), polygon(1.3, 1.2, -1.3, 1.2)]).astype(np.float32)


def grass(generator: Generator) -> Layers:
    """Far hills, a meadow, and nine tufts at random places in front."""
    yield _ridge(generator, HORIZON - 0.12, 0.1), FAR
    yield _ridge(generator, HORIZON + 0.06, 0.02), GROUND
    for _ in range(9):
        x, y = generator.uniform(-1, 1), generator.uniform(HORIZON + 0.2, 1)
        yield (
            polygon(x - 0.05, y, x - 0.07, y - 0.12, x, y - 0.04, x + 0.02, y - 0.17, x + 0.05, y),
            TUFT,
        )


def sand(generator: Generator) -> Layers:
    """A sun at a random x, far and near dunes, and six flat ripples."""
    yield ellipse(generator.uniform(-0.8, 0.8), -0.62, 0.17, 0.17), LIGHT
    yield _ridge(generator, HORIZON, 0.11, 0.1), FAR
    yield _ridge(generator, HORIZON + 0.16, 0.07, 0.1), GROUND
    for _ in range(6):
        x, y = generator.uniform(-1, 1), generator.uniform(HORIZON + 0.32, 1)
        yield ellipse(x, y, 0.2, 0.016), TUFT


def snow(generator: Generator) -> Layers:
    """Two far mountains with pale tops, ground, and twelve flakes over all of it."""
    x = generator.uniform(-0.7, 0.7)
    for at, size in ((x - 0.6, 0.55), (x + 0.55, 0.7)):
        yield polygon(at - size, HORIZON + 0.1, at, HORIZON - size, at + size, HORIZON + 0.1), FAR
        top = polygon(-0.3, -0.7, 0, -1, 0.3, -0.7, 0.12, -0.64, 0, -0.74, -0.14, -0.62)
        yield top * size + np.array([at, HORIZON], np.float32), LIGHT
    yield _ridge(generator, HORIZON + 0.08, 0.03), GROUND
    for _ in range(12):
        yield ellipse(generator.uniform(-1, 1), generator.uniform(-1, 0.9), 0.03, 0.03), LIGHT


def water(generator: Generator) -> Layers:
    """A far shore, and water up to the horizon with a wavy crest every 0.17."""
    yield _ridge(generator, HORIZON - 0.06, 0.05), FAR
    yield box(-1.2, HORIZON, 1.2, 1.2), GROUND
    for y in np.arange(HORIZON + 0.1, 1.05, 0.17):
        x = np.arange(-1.2, 1.3, 0.1)
        line = y + 0.035 * np.sin(9 * x + generator.uniform(0, 6.3))
        yield np.concatenate([np.stack([x, line], 1), np.stack([x, line + 0.035], 1)[::-1]]), TUFT


def night(generator: Generator) -> Layers:
    """14 stars, a crescent (a disc with one of sky before it), far hills and ground."""
    for _ in range(14):
        x, y = generator.uniform(-1, 1), generator.uniform(-1, HORIZON - 0.2)
        size = generator.uniform(0.016, 0.034)
        yield polygon(x, y - size, x + size, y, x, y + size, x - size, y), LIGHT
    x = generator.uniform(-0.75, 0.75)
    yield ellipse(x, -0.66, 0.19, 0.19), LIGHT
    yield ellipse(x + 0.1, -0.71, 0.17, 0.17), SKY
    yield _ridge(generator, HORIZON - 0.02, 0.06), FAR
    yield _ridge(generator, HORIZON + 0.14, 0.03), GROUND


def room(generator: Generator) -> Layers:
    """A window on the left or the right, a skirting, and boards that run towards whoever looks."""
    x = generator.choice([-1, 1]) * generator.uniform(0.5, 0.62)
    yield box(x - 0.3, -0.85, x + 0.3, -0.2), TUFT
    yield box(x - 0.24, -0.79, x + 0.24, -0.26), LIGHT
    yield box(x - 0.02, -0.85, x + 0.02, -0.2), TUFT
    yield box(x - 0.3, -0.54, x + 0.3, -0.5), TUFT
    yield box(-1.2, HORIZON - 0.02, 1.2, 1.2), GROUND
    yield box(-1.2, HORIZON - 0.08, 1.2, HORIZON), FAR
    for at in np.arange(-2.4, 2.5, 0.48):
        yield polygon(at * 0.55, HORIZON, at * 0.55 + 0.02, HORIZON, at + 0.05, 1.1, at, 1.1), TUFT


def city(generator: Generator) -> Layers:
    """Houses of random width and height, two columns of lit windows each, on a dashed street."""
    x = -1.1
    while x < 1:
        width, height = generator.uniform(0.24, 0.4), generator.uniform(0.35, 1.05)
        yield box(x, HORIZON + 0.1 - height, x + width, HORIZON + 0.2), FAR
        for y in np.arange(HORIZON + 0.18 - height, HORIZON, 0.17):
            for at in (0.22, 0.6):
                yield box(x + at * width, y, x + at * width + 0.06, y + 0.08), LIGHT
        x += width + 0.03
    yield box(-1.2, HORIZON + 0.1, 1.2, 1.2), GROUND
    for at in np.arange(-1, 1, 0.5) + generator.uniform(0, 0.3):
        yield box(at, HORIZON + 0.42, at + 0.25, HORIZON + 0.47), LIGHT


def forest(generator: Generator) -> Layers:
    """Six firs, each a trunk and three triangles, of random height, and four flat tufts."""
    yield _ridge(generator, HORIZON + 0.05, 0.03), GROUND
    for x in np.arange(-1.0, 1.1, 0.4) + generator.uniform(-0.1, 0.1, 6):
        top = generator.uniform(-1.0, -0.5)
        yield box(x - 0.035, 0, x + 0.035, HORIZON + 0.06), DARK
        for y, size in ((0.0, 0.3), (0.33, 0.24), (0.62, 0.17)):
            base = 0.16 + (top - 0.16) * y
            yield polygon(x - size, base, x, base - 0.5, x + size, base), FAR
    for _ in range(4):
        x, y = generator.uniform(-1, 1), generator.uniform(HORIZON + 0.25, 1)
        yield ellipse(x, y, 0.09, 0.03), TUFT


PLACES: dict[str, Callable[[Generator], Layers]] = {
    "on grass": grass,
    "on sand": sand,
    "on snow": snow,
    "on water": water,
    "at night": night,
    "in a room": room,
    "in a city": city,
    "in a forest": forest,
}
PLACE_COLOURS = {  # of sky and ground, where the look has no palette of its own
    "on grass": ((0.66, 0.84, 0.95), (0.5, 0.74, 0.36)),
    "on sand": ((0.78, 0.9, 0.96), (0.91, 0.8, 0.55)),
    "on snow": ((0.72, 0.8, 0.9), (0.95, 0.96, 0.99)),
    "on water": ((0.88, 0.92, 0.86), (0.33, 0.58, 0.78)),
    "at night": ((0.12, 0.13, 0.32), (0.2, 0.27, 0.25)),
    "in a room": ((0.9, 0.82, 0.72), (0.68, 0.5, 0.4)),
    "in a city": ((0.86, 0.8, 0.84), (0.55, 0.56, 0.6)),
    "in a forest": ((0.84, 0.9, 0.8), (0.45, 0.5, 0.3)),
}
