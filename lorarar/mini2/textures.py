"""What surfaces are made of: functions of a picture, (128, 128, 3) float32, and a generator.

Patterns repeat every 4, 8 or 16 pixels, so that each latent sees the same of them.
"""

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

SIDE = 128
Pixels = np.ndarray
Generator = np.random.Generator
Y, X = np.mgrid[:SIDE, :SIDE].astype(np.float32)
NOISES = 24  # fields of noise that are drawn once


@cache
def _noise(kind: str) -> list[np.ndarray]:
    """Fields of noise, (256, 256) float32 of mean 0 and deviation 1, made once."""
    generator = np.random.default_rng(7)
    fields = []
    for _ in range(NOISES):
        field: np.ndarray = generator.standard_normal((2 * SIDE, 2 * SIDE)).astype(np.float32)
        if kind == "streaks":
            kernel = np.eye(9, dtype=np.float32)[::-1].copy() / 9
            field = cv2.GaussianBlur(cv2.filter2D(field, -1, kernel), (0, 0), 0.7)
        else:
            field = cv2.GaussianBlur(
                field, (0, 0), {"fine": 0.9, "clouds": 9.0, "daubs": 2.6}[kind]
            )
        fields.append((field - field.mean()) / field.std())
    return fields


def noise(kind: str, generator: Generator) -> np.ndarray:
    """A random piece of noise: 'fine', 'streaks', 'daubs' or 'clouds'."""
    x, y = generator.integers(SIDE, size=2)
    return _noise(kind)[generator.integers(NOISES)][y : y + SIDE, x : x + SIDE]


def _grey(pixels: Pixels) -> np.ndarray:
    return cv2.transform(pixels, np.full((1, 3), 1 / 3, np.float32))


def plain(pixels: Pixels, generator: Generator) -> Pixels:
    """No texture: the picture as it is."""
    return pixels


_STROKE = ((X + Y) % 8) < 2.0
_STROKES = _STROKE | (((X - Y) % 8) < 2.0)


def hatch(pixels: Pixels, generator: Generator) -> Pixels:
    """Diagonal strokes on what is not light, crossed where it is dark."""
    grey = _grey(pixels)
    inked = np.where(grey < 0.42, _STROKES, _STROKE & (grey < 0.8))
    return np.where(inked[..., None], pixels * 0.35, 0.12 + 0.88 * pixels)


_LINES = np.where(Y % 4 < 2, 1.06, 0.55).astype(np.float32)[..., None]


def scan(pixels: Pixels, generator: Generator) -> Pixels:
    """Rows of light, as of a tube."""
    return pixels * _LINES


_THREADS = np.where(
    ((X // 4) + (Y // 4)) % 2 == 0, 0.72 + 0.12 * (Y % 4), 1.12 - 0.12 * (X % 4)
).astype(np.float32)[..., None]


def weave(pixels: Pixels, generator: Generator) -> Pixels:
    """Cloth of crossing threads."""
    return (0.06 + 0.94 * pixels) * _THREADS


_CELL = np.minimum(
    np.hypot(X % 8 - 3.5, Y % 8 - 3.5), np.hypot((X + 4) % 8 - 3.5, (Y + 4) % 8 - 3.5)
)


def dots(pixels: Pixels, generator: Generator) -> Pixels:
    """Dots of colour on paper, larger on darker things."""
    radius = 3.3 - 1.7 * _grey(pixels)
    covered = np.clip(radius - _CELL + 0.5, 0, 1)[..., None]
    return 0.97 + (pixels - 0.97) * (0.25 + 0.75 * covered)


_JOINT = ((X % 16 < 1) | (Y % 16 < 1))[..., None]
_BEVEL = (1.08 - 0.012 * (X % 16) - 0.008 * (Y % 16)).astype(np.float32)[..., None]


def tiles(pixels: Pixels, generator: Generator) -> Pixels:
    """Glazed square tiles with pale joints."""
    return np.where(_JOINT, 0.45 * pixels + 0.5, pixels * _BEVEL)


def grain(pixels: Pixels, generator: Generator) -> Pixels:
    """Coarse grain, as of an old photograph."""
    return pixels + 0.06 * noise("fine", generator)[..., None]


def wash(pixels: Pixels, generator: Generator) -> Pixels:
    """Watercolour: colours run, pool at their edges and let the paper through."""
    drift = 1.2 * noise("daubs", generator)
    moved = cv2.remap(
        pixels, X + drift, Y + drift[::-1], cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT
    )
    soft = cv2.GaussianBlur(moved, (0, 0), 0.8)
    pooled = soft + 0.9 * (soft - cv2.GaussianBlur(moved, (0, 0), 5))
    paper = 0.3 + 0.13 * noise("clouds", generator)[..., None]
    return pooled + (1.0 - pooled) * np.clip(paper, 0.05, 0.62)


def mosaic(pixels: Pixels, generator: Generator) -> Pixels:
    """Square stones of one colour each, some darker than others."""
    small: Pixels = cv2.resize(pixels, (SIDE // 4, SIDE // 4), interpolation=cv2.INTER_AREA)
    small *= 0.91 + 0.18 * generator.random((SIDE // 4, SIDE // 4, 1), np.float32)
    return cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)


def strokes(pixels: Pixels, generator: Generator) -> Pixels:
    """Oil: daubs of paint that carry colour along."""
    drift = 1.6 * np.round(noise("daubs", generator) * 1.1)
    moved = cv2.remap(pixels, X + drift, Y - drift, cv2.INTER_NEAREST, None, cv2.BORDER_REFLECT)
    smeared = cv2.GaussianBlur(moved, (0, 0), 0.6)
    return smeared * (1 + 0.1 * noise("streaks", generator)[..., None])


def crayon(pixels: Pixels, generator: Generator) -> Pixels:
    """Wax on rough paper, whose colour shows between strokes."""
    rubbed = np.clip(0.8 + 0.32 * noise("streaks", generator), 0, 1)[..., None]
    paper = np.float32(0.95) if pixels.mean() > 0.4 else np.float32(0.08)
    return paper + (pixels - paper) * (0.35 + 0.65 * rubbed)


TEXTURES: dict[str, Callable[[Pixels, Generator], Pixels]] = {
    f.__name__: f
    for f in (plain, hatch, scan, weave, dots, tiles, grain, wash, mosaic, strokes, crayon)
}
