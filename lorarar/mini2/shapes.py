"""Outlines that things are made of: closed polygons, (n, 2), x to the right and y down."""

import numpy as np

Points = np.ndarray


def polygon(*numbers: float) -> Points:
    """Corners x, y, x, y and so on as (n, 2) float32."""
    return np.array(numbers, np.float32).reshape(-1, 2)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """The four corners of an upright rectangle, clockwise as seen, (4, 2)."""
    return polygon(left, top, right, top, right, bottom, left, bottom)


def ellipse(x: float, y: float, width: float, height: float, tilt: float = 0.0) -> Points:
    """width, height: half axes; tilt: radians, clockwise as seen."""
    angles = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    along, across = width * np.cos(angles), height * np.sin(angles)
    cosine, sine = np.cos(tilt), np.sin(tilt)
    points = [x + along * cosine - across * sine, y + along * sine + across * cosine]
    return np.stack(points, 1).astype(np.float32)


def curve(*numbers: float, smooth: int = 5) -> Points:
    """A closed curve through the points given (Catmull-Rom spline)."""
    knots = polygon(*numbers)
    before, after = np.roll(knots, 1, 0), np.roll(knots, -1, 0)
    beyond = np.roll(knots, -2, 0)
    t = np.linspace(0, 1, smooth, endpoint=False)[None, :, None]
    a, b, c, d = (each[:, None] for each in (before, knots, after, beyond))
    points = b + 0.5 * t * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * (b - c) + d - a)))
    return points.reshape(-1, 2).astype(np.float32)


def star(x: float, y: float, size: float, tips: int = 5) -> Points:
    """(2 * tips, 2): tips at `size` from (x, y), the first upwards; notches at 0.45 of it."""
    angles = np.arange(2 * tips) * np.pi / tips - np.pi / 2
    radii = np.where(np.arange(2 * tips) % 2, 0.45, 1.0) * size
    points = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], 1)
    return points.astype(np.float32)


def moved(points: Points, x: float, y: float, size: float = 1.0) -> Points:
    """The outline scaled about the origin, then shifted by (x, y), float32."""
    return (points * size + (x, y)).astype(np.float32)
