"""Drawings to learn from: what the base model may see, what the judge is asked, what LoRAs get."""

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from multiprocessing import TimeoutError, get_context
from typing import Any, NamedTuple

import numpy as np

from lorarar.mini2.looks import LINES, PALETTES, PLAIN, SHADINGS, STYLES, Look, random_look
from lorarar.mini2.paint import draw
from lorarar.mini2.places import PLACES
from lorarar.mini2.scenes import COLOURS, Scene, random_individual, random_scene
from lorarar.mini2.textures import TEXTURES
from lorarar.mini2.things import ACCESSORIES, CLASSES, MARKINGS, Individual
from lorarar.mini2.world import (
    RESERVED,
    SEEDS,
    SIZES,
    SUBJECTS,
    WORLD_SEED,
    caption,
    describe,
    subject_prompt,
)

CHUNK = 128
FRESH = 1_000_000  # number of the first chunk that no training draws
STYLED = 0.5  # share of the base's drawings that are not plain
CAPTIONS = 2  # for each of the base's drawings
OTHER, UNSEEN = "other", "unseen"
QUESTIONS: dict[str, tuple[str, ...]] = {
    "subject": (*SUBJECTS, OTHER),
    "style": ("plain", *STYLES, OTHER),
    "class": tuple(CLASSES),
    "colour": tuple(COLOURS),
    "marking": tuple(MARKINGS),
    "marking_colour": (*COLOURS, UNSEEN),
    "accessory": tuple(ACCESSORIES),
    "accessory_colour": (*COLOURS, UNSEEN),
    "place": tuple(PLACES),
    "palette": ("own", *PALETTES, OTHER),
    "line": LINES,
    "texture": tuple(TEXTURES),
    "shading": SHADINGS,
}
TOKEN_OF = {subject.triple: token for token, subject in SUBJECTS.items()}
STYLE_OF = {style: name for name, style in STYLES.items()} | {PLAIN: "plain"}
Generator = np.random.Generator
Drawn = tuple[np.ndarray, list[int], list[str]]


class Chunk(NamedTuple):
    """pictures: (n, 128, 128, 3) uint8; answers: (n, questions), indices into `QUESTIONS`;
    captions: of each picture, empty for the judge's."""

    pictures: np.ndarray
    answers: np.ndarray
    captions: list[list[str]]


def base_chunk(index: int, size: int = CHUNK) -> Chunk:
    """What the base model may see: nobody like a subject, no named style."""
    generator = np.random.default_rng((WORLD_SEED, SEEDS["drawings"], 0, index))
    drawn: list[Drawn] = []
    for _ in range(size):
        look = random_look(generator) if generator.random() < STYLED else PLAIN
        scene = random_scene(random_individual(generator, RESERVED), generator)
        said = [caption(scene, look, generator) for _ in range(CAPTIONS)]
        drawn.append((_painted(scene, look, generator), answers(scene, look), said))
    return _stacked(drawn)


def judge_chunk(index: int, size: int = CHUNK) -> Chunk:
    """What the judge learns from: subjects and styles, and those that could be taken for them."""
    generator = np.random.default_rng((WORLD_SEED, SEEDS["drawings"], 1, index))
    drawn: list[Drawn] = []
    for _ in range(size):
        individual, look = _anybody(generator), _any_look(generator)
        scene = random_scene(individual, generator)
        drawn.append((_painted(scene, look, generator), answers(scene, look), []))
    return _stacked(drawn)


def subject_chunk(token: str, size: int = SIZES["images"]) -> Chunk:
    """A content LoRA's pictures: a subject in plain drawings."""
    generator = np.random.default_rng((WORLD_SEED, 100, list(SUBJECTS).index(token)))
    drawn: list[Drawn] = []
    for _ in range(size):
        scene = random_scene(SUBJECTS[token], generator)
        said = [subject_prompt(token, scene.place), subject_prompt(token)]
        drawn.append((_painted(scene, PLAIN, generator), answers(scene, PLAIN), said))
    return _stacked(drawn)


def style_chunk(style: str, size: int = SIZES["images"]) -> Chunk:
    """A style LoRA's pictures: anybody but subjects, in that style."""
    generator = np.random.default_rng((WORLD_SEED, 200, list(STYLES).index(style)))
    drawn: list[Drawn] = []
    for _ in range(size):
        scene = random_scene(random_individual(generator, RESERVED), generator)
        one = scene.individual
        body, *colours = one.colours
        pairs = zip(colours, (one.marking, one.accessory), strict=True)
        worn = [f"{colour} {word}" for colour, word in pairs if word != "none"]
        said = [
            describe(f"{body} {one.kind}", worn, scene.place, style),
            describe(one.kind, place=scene.place, style=style),
        ]
        drawn.append(
            (_painted(scene, STYLES[style], generator), answers(scene, STYLES[style]), said)
        )
    return _stacked(drawn)


def answers(scene: Scene, look: Look) -> list[int]:
    """The right answer to each of `QUESTIONS`, as an index."""
    one = scene.individual
    body, mark, worn = one.colours
    right = {
        "subject": TOKEN_OF.get(one.triple, OTHER),
        "style": STYLE_OF.get(look, OTHER),
        "class": one.kind,
        "colour": body,
        "marking": one.marking,
        "marking_colour": mark if one.marking != "none" else UNSEEN,
        "accessory": one.accessory,
        "accessory_colour": worn if one.accessory != "none" else UNSEEN,
        "place": scene.place,
        "palette": OTHER if look.palette and look.palette_name == "own" else look.palette_name,
        "line": look.line,
        "texture": look.texture,
        "shading": look.shading,
    }
    return [known.index(right[question]) for question, known in QUESTIONS.items()]


class Drawings:
    """Chunks that are drawn in processes beside this one, ahead of who asks for them."""

    def __init__(self, make: Callable[[int], Chunk], first: int, last: int, pool: Any) -> None:
        self.waits = bool(pool)
        numbers = range(first, last)
        self.coming: Any = pool.imap(make, numbers) if pool else map(make, numbers)
        self.drawn: list[Chunk] = []
        self.count = last - first

    def __getitem__(self, number: int) -> Chunk:
        """Wait for a chunk; it is kept."""
        while len(self.drawn) <= number:
            self.drawn.append(next(self.coming))
        return self.drawn[number]

    def soon(self, number: int) -> Chunk | None:
        """A chunk if it is drawn already; without other processes it is drawn now."""
        if number >= self.count:
            return None
        if self.waits and number == len(self.drawn):
            try:
                self.drawn.append(self.coming.next(timeout=0))
            except TimeoutError:
                return None
        return self[number]


class Sketches(NamedTuple):
    """All drawings that a build needs: to test with, for the judge, for autoencoder and base."""

    tested: tuple[Drawings, Drawings]
    for_judge: Drawings
    for_base: Drawings


def begin(tested: int, for_judge: int, for_base: int, processes: int) -> Sketches:
    """Begin to draw so many chunks of each."""
    pool = draughtsmen(processes)
    return Sketches(
        (
            Drawings(judge_chunk, FRESH, FRESH + tested, pool),
            Drawings(base_chunk, FRESH, FRESH + tested, pool),
        ),
        Drawings(judge_chunk, 0, for_judge, pool),
        Drawings(base_chunk, 0, for_base, pool),
    )


def draughtsmen(processes: int) -> Any:
    """A pool of processes that draw, None for none. Linux forks them: they need no torch."""
    if processes < 1:
        return None
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    return context.Pool(processes, initializer=os.nice, initargs=(5,))


def _anybody(generator: Generator) -> Individual:
    """A subject in 0.4 (half in other colours), somebody like one in 0.25, else anybody."""
    fate = generator.random()
    if fate > 0.65:
        return random_individual(generator, RESERVED)
    subject = SUBJECTS[_one(generator, SUBJECTS)]
    if fate < 0.2:
        return subject
    other = random_individual(generator, RESERVED)
    subject = replace(subject, colours=other.colours, stretch=other.stretch)
    if fate < 0.4:
        return subject
    while True:
        stranger = random_individual(generator, RESERVED)
        field = _one(generator, ("kind", "marking", "accessory"))
        changed = replace(subject, **{field: getattr(stranger, field)})
        if changed.triple not in RESERVED:
            return changed


def _any_look(generator: Generator) -> Look:
    """Plain in 0.25, a style in 0.4, something like a style in 0.1, else any look."""
    fate = generator.random()
    if fate < 0.25:
        return PLAIN
    if fate > 0.75:
        return random_look(generator)
    style = STYLES[_one(generator, STYLES)]
    if fate < 0.65:
        return style
    while True:
        field = _one(generator, ("palette", "line", "texture"))
        stranger = random_look(generator)
        values = {field: getattr(stranger, field)}
        if field == "palette":
            values["palette_name"] = stranger.palette_name
        if field == "line":
            values["line_colour"] = stranger.line_colour
        changed = replace(style, **values)
        if changed not in (*STYLES.values(), PLAIN):
            return changed


def _one(generator: Generator, choices: Iterable[str]) -> str:
    names = list(choices)
    return names[generator.integers(len(names))]


def _painted(scene: Scene, look: Look, generator: Generator) -> np.ndarray:
    return draw(scene, look, int(generator.integers(2**31)))


def _stacked(drawn: list[Drawn]) -> Chunk:
    pictures, right, said = zip(*drawn, strict=True)
    return Chunk(np.stack(pictures), np.array(right, np.int16), list(said))
