"""The small world: which individuals and styles exist, and drawings of them with their prompts.

Everything follows from `WORLD_SEED` and the seeds given; nothing here is ever chosen by looking
at what a model makes of it.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from lorarar.mini.styles import PLAIN, STYLES, Pixels, Style, render
from lorarar.mini.things import (
    ACCESSORIES,
    BODY,
    CLASSES,
    GROUND,
    MARKING,
    MARKINGS,
    Individual,
    parts_of,
)

SIZE = 64  # pixels
WORLD_SEED = 20261124
OVERSAMPLING = 2
SUBJECT_CLASSES = ("dog", "cat", "fish", "bird", "car", "house", "boat", "cup")
SUBJECTS_PER_CLASS = 3
HELD_OUT = 6

COLOURS = {
    "red": (0.85, 0.15, 0.15),
    "orange": (0.95, 0.55, 0.1),
    "yellow": (0.95, 0.85, 0.2),
    "green": (0.2, 0.65, 0.25),
    "blue": (0.15, 0.35, 0.85),
    "purple": (0.55, 0.25, 0.7),
    "white": (0.95, 0.95, 0.95),
    "brown": (0.5, 0.3, 0.15),
}
PLACES = {  # colours of background and ground
    "on grass": ((0.65, 0.85, 0.95), (0.45, 0.75, 0.35)),
    "on sand": ((0.8, 0.92, 0.98), (0.9, 0.8, 0.55)),
    "on snow": ((0.75, 0.8, 0.88), (0.97, 0.98, 1.0)),
    "on water": ((0.9, 0.92, 0.85), (0.3, 0.55, 0.8)),
    "at night": ((0.1, 0.1, 0.25), (0.2, 0.25, 0.2)),
    "in a room": ((0.85, 0.75, 0.65), (0.6, 0.45, 0.4)),
}
DARK = (0.12, 0.1, 0.12)


@dataclass(frozen=True)
class Scene:
    """An individual somewhere. angle: radians; scale: of the half side; x, y: in [-1, 1]."""

    individual: Individual
    place: str
    angle: float = 0.0
    scale: float = 0.65
    x: float = 0.0
    y: float = 0.0
    mirrored: bool = False


def _make_subjects() -> dict[str, Individual]:
    """Name each subject by a rare token: syllables that no other word of the prompts has."""
    generator = np.random.default_rng(WORLD_SEED)
    tokens = [
        a + b for a in ("zu", "ky", "vo", "xi", "qe", "ju") for b in ("pra", "tol", "mek", "nub")
    ]
    looks = [
        (marking, accessory)
        for marking in MARKINGS
        for accessory in ACCESSORIES
        if "none" not in (marking, accessory)
    ]
    subjects = {}
    for index, token in enumerate(generator.permutation(tokens)):
        kind = SUBJECT_CLASSES[index // SUBJECTS_PER_CLASS]
        marking, accessory = looks.pop(int(generator.integers(len(looks))))
        colours = generator.permutation(list(COLOURS.values()))[:3]
        stretch = float(generator.choice([0.75, 1.0, 1.3]))
        subjects[str(token)] = Individual(
            kind, tuple(map(tuple, colours.tolist())), stretch, marking, accessory
        )
    return subjects


def _hold_out(names: list[str], seed: int) -> tuple[str, ...]:
    chosen = np.random.default_rng(seed).choice(names, HELD_OUT, replace=False)
    return tuple(sorted(map(str, chosen)))


SUBJECTS = _make_subjects()
HELD_OUT_SUBJECTS = _hold_out(list(SUBJECTS), WORLD_SEED + 1)
HELD_OUT_STYLES = _hold_out(list(STYLES), WORLD_SEED + 2)


def prompt_for(scene: Scene, token: str | None = None, style: str | None = None) -> str:
    """'a zupra dog on grass in ink style'; without a token, the body's colour takes its place."""
    individual = scene.individual
    thing = f"{token or colour_name(individual.colours[0])} {individual.kind}"
    return describe(thing, scene.place, style)


def describe(thing: str, place: str, style: str | None = None) -> str:
    """'a zupra dog on grass in ink style' of its parts."""
    return f"a {thing} {place} in {style} style" if style else f"a {thing} {place}"


def colour_name(rgb: tuple[float, ...]) -> str:
    """Name one of `COLOURS`."""
    return next(name for name, known in COLOURS.items() if known == rgb)


def random_individual(generator: np.random.Generator, marked: float = 0.3) -> Individual:
    """Anybody but the subjects: some are marked, none has an accessory."""
    kind = str(generator.choice(list(CLASSES)))
    colours = [tuple(c) for c in generator.permutation(list(COLOURS.values())).tolist()[:3]]
    marking = str(generator.choice(list(MARKINGS))) if generator.random() < marked else "none"
    return Individual(kind, tuple(colours), float(generator.uniform(0.7, 1.4)), marking)


def random_scene(individual: Individual, generator: np.random.Generator) -> Scene:
    """Put an individual somewhere, at a random angle and size."""
    return Scene(
        individual,
        str(generator.choice(list(PLACES))),
        angle=float(generator.uniform(-0.25, 0.25)),
        scale=float(generator.uniform(0.6, 0.78)),
        x=float(generator.uniform(-0.12, 0.12)),
        y=float(generator.uniform(0.0, 0.2)),
        mirrored=bool(generator.random() < 0.5),
    )


def draw(scene: Scene, style: Style = PLAIN, seed: int = 0) -> Pixels:
    """Return (64, 64, 3) float64 RGB in [0, 1]. seed: of the style's texture."""
    background, ground = PLACES[scene.place]
    colours = np.array([background, ground, *scene.individual.colours, DARK])
    pixels = render(_roles(scene), colours, style, seed)
    return pixels.reshape(SIZE, OVERSAMPLING, SIZE, OVERSAMPLING, 3).mean((1, 3))


def _roles(scene: Scene) -> np.ndarray:
    """Return which role each pixel shows, (128, 128) int."""
    size = SIZE * OVERSAMPLING
    cosine, sine = np.cos(scene.angle), np.sin(scene.angle)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    flip = np.array([-1 if scene.mirrored else 1, 1])

    def place(points: np.ndarray) -> list[tuple[float, ...]]:
        moved = (points * flip * scene.scale) @ turn + (scene.x, scene.y)
        return [tuple(point) for point in ((moved + 1) * size / 2).tolist()]

    picture, marks = Image.new("L", (size, size)), Image.new("L", (size, size))
    pen, marker = ImageDraw.Draw(picture), ImageDraw.Draw(marks)
    pen.rectangle([0, int(size * 0.68), size, size], fill=GROUND)
    for points, role in parts_of(scene.individual):
        pen.polygon(place(points), fill=role)
    for points in MARKINGS[scene.individual.marking]:
        marker.polygon(place(points), fill=1)
    roles = np.array(picture, int)
    return np.where((np.array(marks) == 1) & (roles == BODY), MARKING, roles)
