"""An individual somewhere, and the colours it may have."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lorarar.mini2.places import PLACES
from lorarar.mini2.things import ACCESSORIES, CLASSES, MARKINGS, Individual

COLOURS = {
    "red": (0.85, 0.14, 0.16),
    "orange": (0.97, 0.55, 0.1),
    "yellow": (0.97, 0.87, 0.22),
    "green": (0.16, 0.6, 0.27),
    "blue": (0.14, 0.34, 0.85),
    "purple": (0.52, 0.22, 0.7),
    "white": (0.95, 0.95, 0.95),
    "brown": (0.44, 0.26, 0.13),
}


@dataclass(frozen=True)
class Scene:
    """angle: radians; scale: of the half side; x, y: of the thing's middle, in [-1, 1]."""

    individual: Individual
    place: str
    angle: float = 0.0
    scale: float = 0.62
    x: float = 0.0
    y: float = 0.16
    mirrored: bool = False


def random_individual(
    generator: np.random.Generator,
    taken: set[tuple[str, str, str]],
    marked: float = 0.6,
    dressed: float = 0.6,
) -> Individual:
    """Anybody whose class, marking and accessory together are not `taken`."""
    while True:
        kind = _one(generator, CLASSES)
        marking = _one(generator, list(MARKINGS)[1:]) if generator.random() < marked else "none"
        worn = _one(generator, list(ACCESSORIES)[1:]) if generator.random() < dressed else "none"
        if (kind, marking, worn) not in taken:
            break
    body, mark, accessory = generator.permutation(list(COLOURS))[:3].tolist()
    stretch = float(generator.uniform(0.82, 1.22))
    return Individual(kind, (body, mark, accessory), stretch, marking, worn)


def random_scene(individual: Individual, generator: np.random.Generator) -> Scene:
    """Somewhere near the middle of any place, turned by up to 0.14 radians, mirrored or not."""
    return Scene(
        individual,
        _one(generator, PLACES),
        angle=float(generator.uniform(-0.14, 0.14)),
        scale=float(generator.uniform(0.56, 0.66)),
        x=float(generator.uniform(-0.12, 0.12)),
        y=float(generator.uniform(0.12, 0.24)),
        mirrored=bool(generator.random() < 0.5),
    )


def _one(generator: np.random.Generator, choices: Iterable[str]) -> str:
    names = list(choices)
    return str(names[generator.integers(len(names))])
