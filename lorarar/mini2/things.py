"""What is drawn: classes of things, what they wear and how they are marked.

A thing is a list of parts, painted in order, each with a role that a look gives its colour.
Coordinates lie in [-1, 1], the accessory may stand out at the top.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from lorarar.mini2.shapes import Points, box, curve, ellipse, moved, polygon, star

SKY, FAR, GROUND, TUFT, BODY, SHADE, MARKING, ACCESSORY, TRIM, DARK, LIGHT = range(11)
ROLE_NAMES = (
    *("sky", "far", "ground", "tuft", "body", "shade"),
    *("marking", "accessory", "trim", "dark", "light"),
)
ROLES = len(ROLE_NAMES)


class Part(NamedTuple):
    """A filled outline."""

    points: Points
    role: int


class Anchors(NamedTuple):
    """Where accessories go, each (x, y, size): on the head, at the neck, the back, on the body."""

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


def _part(line: str) -> list[Part]:
    """Read a line of `outlines.toml`, such as 'shade curve4 0 0 1 0 1 1'; an eye is two parts."""
    role, *words = line.split()
    if role == "eye":
        x, y, size = map(float, words)
        return [
            Part(ellipse(x, y, size, size * 1.2), LIGHT),
            Part(ellipse(x + size * 0.2, y + size * 0.1, size * 0.6, size * 0.75), DARK),
        ]
    shape, numbers = words[0], [float(word) for word in words[1:]]
    known = ROLE_NAMES.index(role)
    if shape == "curve4":
        return [Part(curve(*numbers, smooth=4), known)]
    return [Part(SHAPES[shape](*numbers), known)]


def _parts(text: str) -> list[Part]:
    return [part for line in text.split("\n") if line.strip() for part in _part(line)]


def _anchors(read: dict[str, Any]) -> Anchors:
    return Anchors(*(tuple(read[name]) for name in Anchors._fields))


SHAPES: dict[str, Callable[..., Points]] = {
    f.__name__: f for f in (curve, ellipse, box, polygon, star)
}
_OUTLINES = tomllib.loads((files("lorarar.mini2") / "outlines.toml").read_text())
CLASSES: dict[str, tuple[list[Part], Anchors]] = {
    kind: (_parts(read["parts"]), _anchors(read)) for kind, read in _OUTLINES["classes"].items()
}
ACCESSORIES: dict[str, tuple[list[Part], str]] = {  # parts, and the anchor they hang on
    "none": ([], "top"),
    **{name: (_parts(r["parts"]), r["hangs"]) for name, r in _OUTLINES["accessories"].items()},
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


def parts_of(individual: Individual) -> list[Part]:
    """The thing and what it wears, stretched; its marking is `MARKINGS[individual.marking]`."""
    parts, anchors = CLASSES[individual.kind]
    worn, where = ACCESSORIES[individual.accessory]
    x, y, size = getattr(anchors, where)
    scale = np.array([individual.stretch**0.5, individual.stretch**-0.5], np.float32)
    body = [Part(points * scale, role) for points, role in parts]
    at = np.array([x, y], np.float32) * scale
    side = np.array([-1 if where == "back" and x > 0 else 1, 1], np.float32)  # away from the face
    return body + [
        Part(moved(points * side, at[0], at[1], size * 0.95), role) for points, role in worn
    ]
