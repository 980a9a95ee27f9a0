"""What is drawn: classes of objects as polygons, and the individuals that belong to them.

Coordinates lie in [-1, 1], x to the right and y down. A drawing is a list of parts, painted in
order, each with a role that a style gives its colour.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

BACKGROUND, GROUND, BODY, MARKING, ACCESSORY, DETAIL = range(6)
Points = np.ndarray


class Part(NamedTuple):
    """A filled polygon, (n, 2)."""

    points: Points
    role: int


@dataclass(frozen=True)
class Individual:
    """One object. colours: of body, marking and accessory, each RGB in [0, 1].

    stretch: width over height, relative to its class. marking and accessory: keys of `MARKINGS`
    and `ACCESSORIES`.
    """

    kind: str
    colours: tuple[tuple[float, float, float], ...]
    stretch: float = 1.0
    marking: str = "none"
    accessory: str = "none"


def polygon(*points: float) -> Points:
    """Points x, y, x, y, ... -> (n, 2)."""
    return np.array(points, float).reshape(-1, 2)


def ellipse(x: float, y: float, width: float, height: float) -> Points:
    """width, height: half axes."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return np.stack([x + width * np.cos(angles), y + height * np.sin(angles)], 1)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """A rectangle, (4, 2)."""
    return polygon(left, top, right, top, right, bottom, left, bottom)


def star(x: float, y: float, size: float) -> Points:
    """Five points, one upward, (10, 2)."""
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2, 0.45, 1.0) * size
    return np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], 1)


CLASSES: dict[str, tuple[Part, ...]] = {
    "dog": (
        Part(box(-0.55, 0.2, -0.35, 0.85), BODY),
        Part(box(0.1, 0.2, 0.3, 0.85), BODY),
        Part(ellipse(-0.12, 0.15, 0.6, 0.33), BODY),
        Part(polygon(-0.6, 0.1, -0.95, -0.35, -0.8, -0.4, -0.5, -0.05), BODY),
        Part(ellipse(0.5, -0.25, 0.33, 0.3), BODY),
        Part(ellipse(0.8, -0.15, 0.2, 0.14), BODY),
        Part(ellipse(0.3, -0.2, 0.1, 0.3), DETAIL),
        Part(ellipse(0.58, -0.33, 0.07, 0.07), DETAIL),
        Part(ellipse(0.95, -0.2, 0.08, 0.07), DETAIL),
    ),
    "cat": (
        Part(ellipse(0, 0.4, 0.42, 0.5), BODY),
        Part(polygon(0.3, 0.75, 0.8, 0.6, 0.85, 0.0, 0.7, 0.0, 0.65, 0.5, 0.3, 0.6), BODY),
        Part(polygon(-0.42, -0.35, -0.42, -0.95, -0.05, -0.6), BODY),
        Part(polygon(0.42, -0.35, 0.42, -0.95, 0.05, -0.6), BODY),
        Part(ellipse(0, -0.3, 0.45, 0.38), BODY),
        Part(ellipse(-0.18, -0.35, 0.09, 0.12), DETAIL),
        Part(ellipse(0.18, -0.35, 0.09, 0.12), DETAIL),
        Part(polygon(-0.08, -0.15, 0.08, -0.15, 0, -0.05), DETAIL),
    ),
    "fish": (
        Part(polygon(-0.4, 0, -0.95, -0.45, -0.85, 0, -0.95, 0.45), BODY),
        Part(polygon(-0.2, -0.35, 0.05, -0.75, 0.3, -0.35), BODY),
        Part(ellipse(0.12, 0, 0.65, 0.42), BODY),
        Part(ellipse(0.5, -0.12, 0.09, 0.09), DETAIL),
    ),
    "bird": (
        Part(box(-0.12, 0.5, -0.04, 0.95), DETAIL),
        Part(box(0.12, 0.5, 0.2, 0.95), DETAIL),
        Part(polygon(-0.4, 0.1, -0.98, 0.0, -0.9, 0.35, -0.4, 0.4), BODY),
        Part(ellipse(0, 0.2, 0.55, 0.42), BODY),
        Part(ellipse(0.4, -0.35, 0.32, 0.3), BODY),
        Part(polygon(0.65, -0.45, 0.98, -0.3, 0.65, -0.2), DETAIL),
        Part(ellipse(0.46, -0.4, 0.07, 0.07), DETAIL),
    ),
    "car": (
        Part(polygon(-0.55, 0.0, -0.35, -0.45, 0.3, -0.45, 0.55, 0.0), BODY),
        Part(box(-0.95, -0.05, 0.95, 0.4), BODY),
        Part(polygon(-0.38, -0.05, -0.25, -0.33, -0.05, -0.33, -0.05, -0.05), DETAIL),
        Part(polygon(0.05, -0.05, 0.05, -0.33, 0.22, -0.33, 0.36, -0.05), DETAIL),
        Part(ellipse(-0.5, 0.42, 0.24, 0.24), DETAIL),
        Part(ellipse(0.5, 0.42, 0.24, 0.24), DETAIL),
    ),
    "house": (
        Part(box(-0.65, -0.15, 0.65, 0.85), BODY),
        Part(polygon(-0.85, -0.15, 0, -0.8, 0.85, -0.15), BODY),
        Part(box(0.1, 0.3, 0.4, 0.85), DETAIL),
        Part(box(-0.45, 0.1, -0.12, 0.42), DETAIL),
    ),
    "boat": (
        Part(polygon(-0.95, 0.35, 0.95, 0.35, 0.65, 0.8, -0.65, 0.8), BODY),
        Part(box(-0.06, -0.85, 0.04, 0.35), DETAIL),
        Part(polygon(0.08, -0.75, 0.75, 0.2, 0.08, 0.2), BODY),
        Part(polygon(-0.1, -0.5, -0.6, 0.2, -0.1, 0.2), BODY),
    ),
    "cup": (
        Part(ellipse(0.55, 0.1, 0.38, 0.36), BODY),
        Part(ellipse(0.55, 0.1, 0.2, 0.2), BACKGROUND),
        Part(polygon(-0.65, -0.5, 0.55, -0.5, 0.45, 0.75, -0.55, 0.75), BODY),
        Part(ellipse(-0.05, -0.5, 0.6, 0.16), DETAIL),
    ),
    "tree": (
        Part(box(-0.12, 0.2, 0.12, 0.95), DETAIL),
        Part(ellipse(-0.32, 0.0, 0.42, 0.38), BODY),
        Part(ellipse(0.32, 0.0, 0.42, 0.38), BODY),
        Part(ellipse(0, -0.4, 0.45, 0.45), BODY),
    ),
    "flower": (
        Part(box(-0.05, 0.1, 0.05, 0.95), DETAIL),
        *(
            Part(ellipse(0.42 * np.cos(a), -0.25 + 0.42 * np.sin(a), 0.27, 0.27), BODY)
            for a in np.arange(6) * np.pi / 3
        ),
        Part(ellipse(0, -0.25, 0.22, 0.22), DETAIL),
    ),
}

MARKINGS: dict[str, tuple[Points, ...]] = {  # shown where they fall on the body
    "none": (),
    "stripes": tuple(
        polygon(x, -1, x + 0.16, -1, x + 0.16, 1, x, 1) for x in np.arange(-1, 1, 0.36)
    ),
    "bands": tuple(box(-1, y, 1, y + 0.16) for y in np.arange(-1, 1, 0.34)),
    "spots": tuple(
        ellipse(x + (0.2 if row % 2 else 0), y, 0.12, 0.12)
        for row, y in enumerate(np.arange(-0.9, 1, 0.3))
        for x in np.arange(-1, 1, 0.4)
    ),
    "half": (box(-1, -1, 0, 1),),
    "dipped": (box(-1, 0.25, 1, 1),),
    "slash": (polygon(-1, 0.5, 0.5, -1, 1, -1, 1, -0.7, -0.7, 1, -1, 1),),
}

ACCESSORIES: dict[str, tuple[Points, ...]] = {  # on top of everything
    "none": (),
    "hat": (box(-0.5, -0.8, 0.5, -0.66), box(-0.28, -1.15, 0.28, -0.75)),
    "crown": (
        polygon(-0.4, -0.65, -0.4, -1.15, -0.2, -0.9, 0, -1.2, 0.2, -0.9, 0.4, -1.15, 0.4, -0.65),
    ),
    "star": (star(0, 0.12, 0.36),),
    "flag": (box(-0.85, -1.1, -0.77, 0.2), polygon(-0.77, -1.1, -0.2, -0.85, -0.77, -0.6)),
    "ring": (ellipse(0, 0.15, 0.95, 0.13),),
    "balloon": (
        ellipse(0.7, -0.8, 0.27, 0.32),
        polygon(0.68, -0.5, 0.74, -0.5, 0.3, 0.2, 0.26, 0.2),
    ),
}


def parts_of(individual: Individual) -> list[Part]:
    """The individual's body and accessory; its marking is `MARKINGS[individual.marking]`."""
    worn = [Part(points, ACCESSORY) for points in ACCESSORIES[individual.accessory]]
    scale = np.array([individual.stretch**0.5, individual.stretch**-0.5])
    return [Part(points * scale, role) for points, role in [*CLASSES[individual.kind], *worn]]
