"""What is drawn: classes of things, what they wear and how they are marked.

A thing is a list of parts, painted in order, each with a role that a look gives its colour.
Coordinates lie in [-1, 1], the accessory may stand out at the top.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lorarar.mini2.shapes import Points, box, curve, ellipse, moved, polygon, star

SKY, FAR, GROUND, TUFT, BODY, SHADE, MARKING, ACCESSORY, TRIM, DARK, LIGHT = range(11)
ROLES = 11


class Part(NamedTuple):
    """A filled outline."""

    points: Points
    role: int


class Anchors(NamedTuple):
    """Where accessories go, each (x, y, size): on the head, at the neck, on the back, on the body."""

    top: tuple[float, float, float]
    neck: tuple[float, float, float]
    back: tuple[float, float, float]
    chest: tuple[float, float, float]


@dataclass(frozen=True)
class Individual:
    """One thing. colours: names, of body, marking and accessory. stretch: width over height,
    relative to its class. marking, accessory: keys of `MARKINGS` and `ACCESSORIES`."""

    kind: str
    colours: tuple[str, str, str]
    stretch: float = 1.0
    marking: str = "none"
    accessory: str = "none"

    @property
    def triple(self) -> tuple[str, str, str]:
        """What tells a subject from all others, whatever its colours."""
        return self.kind, self.marking, self.accessory


def _eye(x: float, y: float, size: float = 0.09) -> list[Part]:
    return [
        Part(ellipse(x, y, size, size * 1.2), LIGHT),
        Part(ellipse(x + size * 0.2, y + size * 0.1, size * 0.6, size * 0.75), DARK),
    ]


_DOG = [
    Part(
        curve(-0.62, 0.05, -0.95, -0.3, -1.0, -0.55, -0.88, -0.55, -0.8, -0.25, -0.5, -0.05), BODY
    ),
    Part(curve(-0.4, 0.3, -0.42, 0.88, -0.24, 0.9, -0.2, 0.3), SHADE),
    Part(curve(0.28, 0.3, 0.3, 0.88, 0.47, 0.9, 0.46, 0.3), SHADE),
    Part(
        curve(
            -0.66,
            0.2,
            -0.62,
            0.92,
            -0.4,
            0.93,
            -0.36,
            0.45,
            0.05,
            0.47,
            0.08,
            0.92,
            0.29,
            0.93,
            0.36,
            0.3,
            0.42,
            -0.1,
            0.1,
            -0.18,
            -0.4,
            -0.14,
        ),
        BODY,
    ),
    Part(
        curve(
            0.12,
            -0.3,
            0.2,
            -0.66,
            0.5,
            -0.76,
            0.74,
            -0.6,
            0.78,
            -0.42,
            1.0,
            -0.32,
            1.0,
            -0.14,
            0.72,
            -0.06,
            0.4,
            0.02,
            0.18,
            -0.06,
        ),
        BODY,
    ),
    Part(curve(0.2, -0.68, 0.02, -0.5, 0.04, -0.1, 0.2, -0.08, 0.32, -0.4), SHADE),
    Part(ellipse(0.97, -0.3, 0.08, 0.07), DARK),
    *_eye(0.6, -0.44),
]
_CAT = [
    Part(
        curve(
            0.3, 0.8, 0.75, 0.78, 0.92, 0.4, 0.78, 0.05, 0.68, 0.1, 0.74, 0.4, 0.6, 0.62, 0.3, 0.62
        ),
        SHADE,
    ),
    Part(curve(-0.44, 0.9, -0.5, 0.5, -0.3, 0.05, 0.3, 0.05, 0.5, 0.5, 0.44, 0.9), BODY),
    Part(curve(-0.16, 0.92, -0.16, 0.6, 0, 0.5, 0.16, 0.6, 0.16, 0.92), SHADE),
    Part(polygon(-0.48, -0.3, -0.46, -0.9, -0.08, -0.6), BODY),
    Part(polygon(0.48, -0.3, 0.46, -0.9, 0.08, -0.6), BODY),
    Part(polygon(-0.4, -0.5, -0.4, -0.76, -0.2, -0.6), SHADE),
    Part(polygon(0.4, -0.5, 0.4, -0.76, 0.2, -0.6), SHADE),
    Part(
        curve(
            -0.52,
            -0.25,
            -0.4,
            -0.58,
            0,
            -0.66,
            0.4,
            -0.58,
            0.52,
            -0.25,
            0.3,
            0.06,
            0,
            0.12,
            -0.3,
            0.06,
        ),
        BODY,
    ),
    *_eye(-0.2, -0.3, 0.11),
    *_eye(0.2, -0.3, 0.11),
    Part(polygon(-0.07, -0.12, 0.07, -0.12, 0, -0.03), DARK),
]
_FISH = [
    Part(curve(-0.45, 0.05, -0.95, -0.42, -0.84, 0.05, -0.95, 0.5, smooth=4), SHADE),
    Part(curve(-0.25, -0.3, -0.1, -0.66, 0.25, -0.62, 0.35, -0.3), SHADE),
    Part(curve(-0.1, 0.4, 0.0, 0.72, 0.2, 0.68, 0.22, 0.4), SHADE),
    Part(
        curve(
            -0.6,
            0.05,
            -0.2,
            -0.36,
            0.3,
            -0.44,
            0.75,
            -0.22,
            0.93,
            0.06,
            0.75,
            0.32,
            0.3,
            0.5,
            -0.2,
            0.44,
        ),
        BODY,
    ),
    Part(curve(0.1, 0.05, -0.18, -0.06, -0.22, 0.2, 0.04, 0.22), SHADE),
    *_eye(0.6, -0.08, 0.1),
]
_BIRD = [
    Part(box(-0.16, 0.5, -0.1, 0.95), DARK),
    Part(box(0.1, 0.5, 0.16, 0.95), DARK),
    Part(curve(-0.4, 0.1, -0.98, -0.12, -1.0, 0.12, -0.5, 0.42), SHADE),
    Part(
        curve(
            -0.6,
            0.22,
            -0.3,
            -0.14,
            0.1,
            -0.3,
            0.12,
            -0.56,
            0.38,
            -0.76,
            0.68,
            -0.62,
            0.72,
            -0.3,
            0.56,
            0.2,
            0.3,
            0.56,
            -0.1,
            0.64,
            -0.45,
            0.5,
        ),
        BODY,
    ),
    Part(curve(-0.5, 0.22, -0.1, -0.04, 0.24, 0.08, 0.14, 0.32, -0.15, 0.42), SHADE),
    Part(polygon(0.69, -0.58, 1.0, -0.4, 0.69, -0.32), DARK),
    *_eye(0.48, -0.5, 0.09),
]
_RABBIT = [
    Part(curve(-0.3, -0.45, -0.42, -0.95, -0.28, -1.1, -0.14, -0.9, -0.08, -0.5), BODY),
    Part(curve(0.3, -0.45, 0.42, -0.95, 0.28, -1.1, 0.14, -0.9, 0.08, -0.5), BODY),
    Part(curve(-0.26, -0.6, -0.32, -0.9, -0.26, -0.98, -0.18, -0.86, -0.16, -0.6), SHADE),
    Part(curve(0.26, -0.6, 0.32, -0.9, 0.26, -0.98, 0.18, -0.86, 0.16, -0.6), SHADE),
    Part(ellipse(0.52, 0.66, 0.17, 0.17), SHADE),
    Part(curve(-0.48, 0.88, -0.56, 0.5, -0.34, 0.06, 0.34, 0.06, 0.56, 0.5, 0.48, 0.88), BODY),
    Part(ellipse(-0.3, 0.88, 0.22, 0.1), SHADE),
    Part(ellipse(0.3, 0.88, 0.22, 0.1), SHADE),
    Part(curve(-0.42, -0.2, -0.3, -0.52, 0.3, -0.52, 0.42, -0.2, 0.26, 0.1, -0.26, 0.1), BODY),
    *_eye(-0.18, -0.26, 0.09),
    *_eye(0.18, -0.26, 0.09),
    Part(ellipse(0, -0.1, 0.07, 0.05), DARK),
]
_TURTLE = [
    Part(curve(-0.62, 0.42, -0.7, 0.85, -0.42, 0.86, -0.36, 0.5), SHADE),
    Part(curve(0.1, 0.5, 0.08, 0.86, 0.36, 0.86, 0.4, 0.46), SHADE),
    Part(polygon(-0.7, 0.4, -1.0, 0.6, -0.62, 0.6), SHADE),
    Part(
        curve(
            0.44,
            0.36,
            0.6,
            0.0,
            0.6,
            -0.2,
            0.76,
            -0.36,
            0.98,
            -0.26,
            1.0,
            -0.06,
            0.84,
            0.08,
            0.74,
            0.5,
        ),
        SHADE,
    ),
    Part(
        curve(
            -0.8,
            0.5,
            -0.72,
            0.0,
            -0.4,
            -0.34,
            0.02,
            -0.42,
            0.38,
            -0.26,
            0.62,
            0.1,
            0.66,
            0.5,
            0.0,
            0.6,
        ),
        BODY,
    ),
    Part(curve(-0.84, 0.46, -0.1, 0.52, 0.7, 0.44, 0.68, 0.6, 0.0, 0.68, -0.8, 0.62), SHADE),
    *_eye(0.84, -0.18, 0.07),
]
_CAR = [
    Part(
        curve(
            -0.96,
            0.3,
            -0.94,
            -0.02,
            -0.62,
            -0.1,
            -0.42,
            -0.5,
            0.3,
            -0.5,
            0.58,
            -0.08,
            0.94,
            0.02,
            0.98,
            0.36,
            0.9,
            0.5,
            -0.9,
            0.5,
        ),
        BODY,
    ),
    Part(polygon(-0.46, -0.1, -0.32, -0.4, -0.06, -0.4, -0.06, -0.1), LIGHT),
    Part(polygon(0.04, -0.1, 0.04, -0.4, 0.24, -0.4, 0.42, -0.1), LIGHT),
    Part(box(-0.95, 0.34, 0.97, 0.42), SHADE),
    Part(ellipse(0.9, 0.16, 0.07, 0.08), LIGHT),
    *(
        Part(ellipse(x, 0.5, size, size), role)
        for x in (-0.52, 0.54)
        for size, role in ((0.25, DARK), (0.11, LIGHT))
    ),
]
_HOUSE = [
    Part(box(0.3, -0.84, 0.5, -0.3), SHADE),
    Part(box(-0.66, -0.2, 0.66, 0.9), BODY),
    Part(polygon(-0.88, -0.12, 0, -0.86, 0.88, -0.12), SHADE),
    Part(box(0.12, 0.34, 0.44, 0.9), DARK),
    Part(box(-0.48, 0.14, -0.12, 0.5), LIGHT),
    Part(box(-0.32, 0.14, -0.28, 0.5), DARK),
    Part(box(-0.48, 0.3, -0.12, 0.34), DARK),
    Part(ellipse(0, -0.42, 0.13, 0.13), LIGHT),
]
_BOAT = [
    Part(box(-0.06, -0.9, 0.03, 0.4), DARK),
    Part(curve(0.07, -0.84, 0.45, -0.4, 0.72, 0.22, 0.07, 0.22, smooth=4), LIGHT),
    Part(curve(-0.1, -0.6, -0.36, -0.2, -0.58, 0.22, -0.1, 0.22, smooth=4), SHADE),
    Part(
        curve(
            -0.98,
            0.3,
            -0.5,
            0.36,
            0.5,
            0.36,
            0.98,
            0.24,
            0.74,
            0.8,
            0.5,
            0.92,
            -0.5,
            0.92,
            -0.76,
            0.76,
        ),
        BODY,
    ),
]
_CUP = [
    Part(ellipse(0.56, 0.12, 0.36, 0.36), SHADE),
    Part(ellipse(0.56, 0.12, 0.2, 0.2), SKY),
    Part(
        curve(
            -0.7,
            -0.44,
            -0.66,
            0.2,
            -0.44,
            0.76,
            0.0,
            0.84,
            0.34,
            0.76,
            0.56,
            0.2,
            0.6,
            -0.44,
            smooth=4,
        ),
        BODY,
    ),
    Part(ellipse(-0.05, -0.44, 0.65, 0.17), SHADE),
    Part(ellipse(-0.05, -0.42, 0.54, 0.11), DARK),
]
_MUSHROOM = [
    Part(curve(-0.26, 0.1, -0.2, 0.5, -0.34, 0.88, 0.34, 0.88, 0.2, 0.5, 0.26, 0.1), LIGHT),
    Part(curve(-0.84, 0.2, 0, 0.06, 0.84, 0.2, 0, 0.34), DARK),
    Part(
        curve(
            -0.9,
            0.14,
            -0.8,
            -0.3,
            -0.4,
            -0.68,
            0.0,
            -0.78,
            0.4,
            -0.68,
            0.8,
            -0.3,
            0.9,
            0.14,
            0.0,
            0.22,
        ),
        BODY,
    ),
    *_eye(-0.1, 0.52, 0.06),
    *_eye(0.12, 0.52, 0.06),
]
_ROBOT = [
    Part(box(-0.34, 0.6, -0.1, 0.94), DARK),
    Part(box(0.1, 0.6, 0.34, 0.94), DARK),
    Part(box(-0.74, 0.02, -0.54, 0.56), SHADE),
    Part(box(0.54, 0.02, 0.74, 0.56), SHADE),
    Part(box(-0.52, -0.06, 0.52, 0.7), BODY),
    Part(box(-0.12, -0.2, 0.12, 0.0), DARK),
    Part(box(-0.44, -0.74, 0.44, -0.14), BODY),
    Part(box(-0.34, -0.6, 0.34, -0.3), DARK),
    Part(ellipse(-0.16, -0.45, 0.09, 0.09), LIGHT),
    Part(ellipse(0.16, -0.45, 0.09, 0.09), LIGHT),
]

CLASSES: dict[str, tuple[list[Part], Anchors]] = {
    "dog": (
        _DOG,
        Anchors((0.46, -0.7, 0.8), (0.32, 0.06, 0.8), (-0.3, -0.14, 1), (-0.12, 0.16, 0.8)),
    ),
    "cat": (_CAT, Anchors((0, -0.6, 0.9), (0, 0.2, 0.85), (0.46, 0.4, 1), (0, 0.42, 0.8))),
    "fish": (
        _FISH,
        Anchors((0.42, -0.4, 0.8), (0.28, 0.38, 0.8), (-0.1, -0.36, 1), (0.14, 0.05, 0.8)),
    ),
    "bird": (
        _BIRD,
        Anchors((0.4, -0.7, 0.8), (0.36, -0.12, 0.8), (-0.3, 0.0, 1), (0.0, 0.26, 0.8)),
    ),
    "rabbit": (_RABBIT, Anchors((0, -0.5, 0.8), (0, 0.22, 0.8), (0.48, 0.3, 1), (0, 0.5, 0.9))),
    "turtle": (
        _TURTLE,
        Anchors((0.8, -0.3, 0.65), (0.66, 0.24, 0.7), (-0.2, -0.36, 1), (-0.1, 0.1, 0.9)),
    ),
    "car": (
        _CAR,
        Anchors((-0.06, -0.46, 0.9), (0.74, 0.24, 0.8), (-0.66, -0.1, 1), (0.0, 0.18, 0.75)),
    ),
    "house": (
        _HOUSE,
        Anchors((0, -0.76, 0.9), (-0.3, -0.12, 0.8), (-0.58, -0.34, 1), (-0.3, 0.68, 0.7)),
    ),
    "boat": (
        _BOAT,
        Anchors((-0.02, -0.84, 0.8), (0.44, 0.48, 0.8), (-0.72, 0.4, 1), (0, 0.62, 0.8)),
    ),
    "cup": (
        _CUP,
        Anchors((-0.05, -0.46, 0.9), (-0.05, -0.14, 0.9), (-0.56, -0.36, 1), (-0.05, 0.24, 0.9)),
    ),
    "mushroom": (
        _MUSHROOM,
        Anchors((0, -0.74, 0.95), (0, 0.3, 0.9), (-0.6, -0.45, 1), (0, -0.28, 0.9)),
    ),
    "robot": (_ROBOT, Anchors((0, -0.72, 0.9), (0, -0.06, 0.9), (-0.6, 0.04, 1), (0, 0.34, 0.9))),
}

MARKINGS: dict[str, tuple[Points, ...]] = {  # shown where they fall on the body
    "none": (),
    "stripes": tuple(
        polygon(x, -1.2, x + 0.17, -1.2, x + 0.17, 1.2, x, 1.2) for x in np.arange(-1, 1, 0.36)
    ),
    "bands": tuple(box(-1.2, y, 1.2, y + 0.16) for y in np.arange(-1.1, 1, 0.34)),
    "spots": tuple(
        ellipse(x + (0.2 if row % 2 else 0), y, 0.115, 0.115)
        for row, y in enumerate(np.arange(-1.1, 1.1, 0.29))
        for x in np.arange(-1, 1.1, 0.4)
    ),
    "checks": tuple(
        box(x, y, x + 0.24, y + 0.24)
        for row, y in enumerate(np.arange(-1.2, 1.1, 0.24))
        for x in np.arange(-1.2 + (0.24 if row % 2 else 0), 1.1, 0.48)
    ),
    "patches": (
        curve(-0.75, -0.1, -0.4, -0.35, -0.1, -0.05, -0.3, 0.4, -0.7, 0.35),
        curve(0.15, 0.3, 0.45, 0.1, 0.75, 0.35, 0.55, 0.75, 0.2, 0.7),
        curve(0.2, -0.9, 0.75, -0.8, 0.7, -0.45, 0.3, -0.4),
        curve(-0.6, -0.95, -0.2, -0.9, -0.15, -0.55, -0.5, -0.5),
    ),
    "zigzags": tuple(
        np.concatenate([
            np.stack([np.arange(-1.2, 1.3, 0.2), y + 0.22 * (np.arange(13) % 2)], 1),
            np.stack([np.arange(1.2, -1.3, -0.2), y + 0.14 + 0.22 * (np.arange(13) % 2)], 1),
        ]).astype(np.float32)
        for y in np.arange(-1.2, 1.1, 0.42)
    ),
}  # fmt: skip

_HAT = [  # around (0, 0), where it sits
    Part(curve(-0.62, 0.02, 0, -0.1, 0.62, 0.02, 0, 0.13), ACCESSORY),
    Part(polygon(-0.34, 0.0, -0.38, -0.6, 0.38, -0.6, 0.34, 0.0), ACCESSORY),
    Part(polygon(-0.35, -0.06, -0.36, -0.2, 0.36, -0.2, 0.35, -0.06), TRIM),
]
_CROWN = [
    Part(
        polygon(
            -0.46, 0.05, -0.56, -0.56, -0.27, -0.26, 0, -0.66, 0.27, -0.26, 0.56, -0.56, 0.46, 0.05
        ),
        ACCESSORY,
    ),
    Part(polygon(-0.46, 0.05, -0.48, -0.1, 0.48, -0.1, 0.46, 0.05), TRIM),
    *(
        Part(ellipse(x, y, 0.08, 0.08), TRIM)
        for x, y in ((-0.56, -0.58), (0, -0.68), (0.56, -0.58))
    ),
]
_CONE = [
    Part(polygon(-0.4, 0.05, 0, -0.95, 0.4, 0.05), ACCESSORY),
    Part(polygon(-0.27, -0.27, 0.16, -0.54, 0.22, -0.4, -0.34, -0.08), TRIM),
    Part(ellipse(0, -0.96, 0.12, 0.12), TRIM),
]
_BOW = [
    Part(curve(0, 0, -0.5, -0.32, -0.56, 0, -0.5, 0.32, smooth=4), ACCESSORY),
    Part(curve(0, 0, 0.5, -0.32, 0.56, 0, 0.5, 0.32, smooth=4), ACCESSORY),
    Part(ellipse(0, 0, 0.14, 0.15), TRIM),
]
_FLAG = [
    Part(box(-0.04, -1.0, 0.04, 0.1), DARK),
    Part(
        curve(
            -0.04, -0.98, -0.3, -1.02, -0.64, -0.9, -0.66, -0.5, -0.3, -0.6, -0.04, -0.54, smooth=4
        ),
        ACCESSORY,
    ),
]
_BALLOON = [
    Part(polygon(-0.02, 0.1, -0.3, -0.5, -0.26, -0.5, 0.02, 0.1), DARK),
    Part(ellipse(-0.3, -0.8, 0.3, 0.35), ACCESSORY),
    Part(ellipse(-0.4, -0.92, 0.08, 0.1), TRIM),
]
_STAR = [Part(star(0, 0, 0.42), ACCESSORY), Part(star(0, 0, 0.2), TRIM)]
_UMBRELLA = [
    Part(box(-0.035, -0.85, 0.035, 0.1), DARK),
    Part(curve(-0.62, -0.58, -0.5, -0.95, 0, -1.15, 0.5, -0.95, 0.62, -0.58, 0.4, -0.66, 0.2, -0.58,
               0, -0.66, -0.2, -0.58, -0.4, -0.66, smooth=4), ACCESSORY),
    Part(curve(-0.2, -0.6, -0.12, -0.95, 0, -1.12, 0.12, -0.95, 0.2, -0.6, 0, -0.66, smooth=4), TRIM),
]  # fmt: skip
ACCESSORIES: dict[str, tuple[list[Part], str]] = {  # parts, and the anchor they hang on
    "none": ([], "top"),
    "hat": (_HAT, "top"),
    "crown": (_CROWN, "top"),
    "cone": (_CONE, "top"),
    "bow": (_BOW, "neck"),
    "flag": (_FLAG, "back"),
    "balloon": (_BALLOON, "back"),
    "star": (_STAR, "chest"),
    "umbrella": (_UMBRELLA, "back"),
}


def parts_of(individual: Individual) -> list[Part]:
    """The thing and what it wears, stretched; its marking is `MARKINGS[individual.marking]`."""
    parts, anchors = CLASSES[individual.kind]
    worn, where = ACCESSORIES[individual.accessory]
    x, y, size = getattr(anchors, where)
    scale = np.array([individual.stretch**0.5, individual.stretch**-0.5], np.float32)
    body = [Part(points * scale, role) for points, role in parts]
    at = np.array([x, y], np.float32) * scale
    side = np.float32([-1 if where == "back" and x > 0 else 1, 1])  # away from the face
    return body + [Part(moved(points * side, *at, size * 0.95), role) for points, role in worn]
