"""Which subjects there are, who and what is held out, and what captions say of drawings.

All of it follows from the seeds in `split.toml`; nothing is chosen by looking at what a model makes
of it.
"""

import tomllib
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from lorarar.mini2.looks import PLAIN, STYLES, Look
from lorarar.mini2.scenes import COLOURS, Scene
from lorarar.mini2.things import ACCESSORIES, CLASSES, MARKINGS, Individual

SPLIT = tomllib.loads((files("lorarar.mini2") / "split.toml").read_text())
SEEDS, SIZES, GATES = SPLIT["seeds"], SPLIT["sizes"], SPLIT["gates"]
WORLD_SEED: int = SEEDS["world"]
SYLLABLES = ("zu", "ky", "vo", "xi", "qe", "ju"), ("pra", "tol", "mek", "nub", "wif", "sard")
TOKENS = 24  # in a prompt, at most, with its beginning and end


def _make_subjects() -> dict[str, Individual]:
    """Name each subject by a rare token: syllables that no other word of the prompts has."""
    generator = np.random.default_rng(WORLD_SEED)
    tokens = generator.permutation([a + b for a in SYLLABLES[0] for b in SYLLABLES[1]])
    dresses = [(m, a) for m in MARKINGS for a in ACCESSORIES if "none" not in (m, a)]
    classes = list(CLASSES) * (SIZES["subjects"] // len(CLASSES))
    subjects = {}
    for token, kind in zip(tokens.tolist(), classes, strict=True):
        marking, accessory = dresses.pop(int(generator.integers(len(dresses))))
        body, mark, worn = generator.permutation(list(COLOURS))[:3].tolist()
        stretch = float(generator.choice([0.85, 1.0, 1.18]))
        subjects[token] = Individual(kind, (body, mark, worn), stretch, marking, accessory)
    return subjects


def _hold_out(names: list[str], offset: int) -> tuple[str, ...]:
    generator = np.random.default_rng(WORLD_SEED + offset)
    return tuple(sorted(generator.choice(names, SIZES["held_out"], replace=False).tolist()))


SUBJECTS = _make_subjects()
RESERVED = {subject.triple for subject in SUBJECTS.values()}  # never drawn for the base model
HELD_OUT_SUBJECTS = _hold_out(list(SUBJECTS), SEEDS["hold_out"])
HELD_OUT_STYLES = _hold_out(list(STYLES), SEEDS["hold_out"] + 1)


@dataclass(frozen=True)
class Naming:
    """How much a caption says: the share of each attribute that is named where it can be."""

    colour: float = 0.75
    marking: float = 0.75
    accessory: float = 0.75
    detail: float = 0.8  # colours of marking and accessory
    place: float = 0.8
    look: float = 0.75  # each component


ALL = Naming(1, 1, 1, 1, 1, 1)


def caption(
    scene: Scene, look: Look, generator: np.random.Generator, naming: Naming = Naming()
) -> str:
    """'a red dog with blue stripes and green hat on grass in pastel bold hatch soft look'.

    Only what can be seen is named.
    """
    one = scene.individual
    body, mark, worn = one.colours

    def says(share: float) -> bool:
        return bool(generator.random() < share)

    def phrase(word: str, colour: str) -> str:
        return f"{colour} {word}" if says(naming.detail) else word

    extras = []
    if one.marking != "none" and says(naming.marking):
        extras.append(phrase(one.marking, mark))
    if one.accessory != "none" and says(naming.accessory):
        extras.append(phrase(one.accessory, worn))
    thing = f"{body} {one.kind}" if says(naming.colour) else one.kind
    place = scene.place if says(naming.place) else ""
    return describe(thing, extras, place, look=_told(look, generator, naming.look))


def _told(look: Look, generator: np.random.Generator, share: float) -> list[str]:
    """Some of the look's components, at least one unless it is plain."""
    unsaid = {*PLAIN.names.values(), "other"}
    words = [word for word in look.names.values() if word not in unsaid]
    told = [word for word in words if generator.random() < share]
    return told or words[:1] if words else []


def describe(
    thing: str,
    extras: list[str] | None = None,
    place: str = "",
    style: str | None = None,
    look: list[str] | None = None,
) -> str:
    """Put a prompt together; the only place where their grammar is."""
    parts = [f"a {thing}"]
    if extras:
        parts.append("with " + " and ".join(extras))
    if place:
        parts.append(place)
    if style:
        parts.append(f"in {style} style")
    if look:
        parts.append(f"in {' '.join(look)} look")
    return " ".join(parts)


def subject_prompt(token: str, place: str = "", style: str | None = None) -> str:
    """'a zupra dog on grass in ink style'."""
    return describe(f"{token} {SUBJECTS[token].kind}", place=place, style=style)
