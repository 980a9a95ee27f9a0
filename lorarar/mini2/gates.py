"""What must hold before LoRA.rar is looked at: of the judge, the base, LoRAs alone and together."""

from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice, product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lorarar.mini2.autoencoder import decode, encode
from lorarar.mini2.base import embed
from lorarar.mini2.denoising import GUIDANCE, STEPS, sample, starts
from lorarar.mini2.judge import Judge, ask, shares
from lorarar.mini2.lanes import Lanes, Loras
from lorarar.mini2.looks import LINES, PALETTES, SHADINGS
from lorarar.mini2.machine import DEVICE
from lorarar.mini2.model import Denoiser
from lorarar.mini2.places import PLACES
from lorarar.mini2.samples import QUESTIONS, Chunk
from lorarar.mini2.scenes import COLOURS, random_individual
from lorarar.mini2.textures import TEXTURES
from lorarar.mini2.things import ACCESSORIES, CLASSES, MARKINGS
from lorarar.mini2.world import RESERVED, SEEDS, SUBJECTS, describe, subject_prompt

LOOKS = {  # what can be named, by the question that asks for it
    "palette": tuple(PALETTES),
    "line": LINES[1:],
    "texture": tuple(TEXTURES)[1:],
    "shading": SHADINGS[1:],
}
ROWS = 1024  # pictures drawn at once, at most
Names = dict[str, str]  # what a prompt names, by question


class World(NamedTuple):
    """What drawing and judging need."""

    model: Denoiser
    vae: Any
    lanes: Lanes
    judge: Judge
    steps: int = STEPS
    guidance: float = GUIDANCE


class Wish(NamedTuple):
    """A prompt and the answers that it calls for."""

    prompt: str
    names: Names


def judge_on(judge: Judge, chunks: list[Chunk], vae: Any = None) -> dict[str, float]:
    """Right answers by question on drawings, or on what the autoencoder makes of them."""
    said, right = [], []
    for chunk in chunks:
        pictures = torch.from_numpy(chunk.pictures)
        if vae is None:
            shown = pictures.permute(0, 3, 1, 2) / 255
        else:
            shown = decode(vae, encode(vae, pictures))
        said.append(ask(judge, shown))
        right.append(chunk.answers)
    return shares(np.concatenate(said), np.concatenate(right))


@torch.no_grad()
def draw_lanes(
    world: World, wishes: list[list[Wish]], loras: Loras | None, seed: int = SEEDS["gates"]
) -> Tensor:
    """Draw as many wishes for each lane; pictures (lanes, n, 3, 128, 128). Seeds: of the n."""
    count = len(wishes[0])
    empty = embed(world.model, [""])
    pictures, per = [], max(1, ROWS // count)
    for first in range(0, len(wishes), per):
        some = wishes[first : first + per]
        words, pooled = embed(world.model, [wish.prompt for lane in some for wish in lane])
        noise = starts([seed + number for number in range(count)]).repeat(len(some), 1, 1, 1)
        if loras is not None:
            chosen = slice(first, first + per)
            world.lanes.carry({k: type(f)(*(part[chosen] for part in f)) for k, f in loras.items()})
        latents = sample(world.model, words, pooled, empty, noise, world.steps, world.guidance)
        world.lanes.carry(None)
        pictures.append(decode(world.vae, latents).unflatten(0, (len(some), count)))
    return torch.cat(pictures)


def rights(world: World, wishes: list[list[Wish]], pictures: Tensor) -> dict[str, np.ndarray]:
    """Whether what was asked for is there, by question, (lanes, n); NaN where nothing was asked."""
    said = ask(world.judge, pictures.flatten(0, 1)).reshape(*pictures.shape[:2], -1)
    found = {}
    for number, (question, known) in enumerate(QUESTIONS.items()):
        asked = [[wish.names.get(question) for wish in lane] for lane in wishes]
        wanted = np.array([[known.index(a) if a else -1 for a in lane] for lane in asked])
        found[question] = np.where(wanted < 0, np.nan, said[..., number] == wanted)
    return found


def means(found: dict[str, np.ndarray]) -> dict[str, float]:
    """The share that is right by question, over all lanes; questions not asked are left out."""
    return {q: float(np.nanmean(v)) for q, v in found.items() if not np.isnan(v).all()}


def split_lanes(wishes: list[Wish], count: int = 32) -> list[list[Wish]]:
    """Many wishes for no LoRA, `count` at a time (those left over are dropped)."""
    return [wishes[i : i + count] for i in range(0, len(wishes) - count + 1, count)]


def alone_wishes(each: int) -> dict[str, list[Wish]]:
    """By question: prompts that name one attribute (with what has to be there to carry it)."""
    kinds = cycle(CLASSES)
    marks, worn = list(MARKINGS)[1:], list(ACCESSORIES)[1:]

    def wishes(
        question: str, values: Iterable[str], prompt: Callable[[str, str], str]
    ) -> list[Wish]:
        several = islice(cycle(values), each)
        return [Wish(prompt(next(kinds), value), {question: value}) for value in several]

    alone = {
        "class": wishes("class", CLASSES, lambda kind, value: describe(value)),
        "colour": wishes("colour", COLOURS, lambda kind, value: describe(f"{value} {kind}")),
        "marking": wishes("marking", marks, lambda kind, value: describe(kind, [value])),
        "accessory": wishes("accessory", worn, lambda kind, value: describe(kind, [value])),
        "place": wishes("place", PLACES, lambda kind, value: describe(kind, place=value)),
    }
    marked, dressed = cycle(marks), cycle(worn)

    def coloured(things: Iterator[str]) -> Callable[[str, str], str]:
        return lambda kind, value: describe(kind, [f"{value} {next(things)}"])

    for question, things in (("marking_colour", marked), ("accessory_colour", dressed)):
        alone[question] = wishes(question, COLOURS, coloured(things))
    for question, values in LOOKS.items():
        alone[question] = wishes(question, values, lambda kind, value: describe(kind, look=[value]))
    return alone


def together_wishes(each: int, seed: int = SEEDS["gates"]) -> list[Wish]:
    """Class, marking, accessory, their colours and one component of a look in each prompt."""
    generator = np.random.default_rng(seed)
    wishes = []
    for number in range(each):
        one = random_individual(generator, RESERVED, 1, 1)
        question = list(LOOKS)[number % len(LOOKS)]
        look = LOOKS[question][generator.integers(len(LOOKS[question]))]
        names = {"class": one.kind, "marking": one.marking, "accessory": one.accessory}
        body, mark, worn = one.colours
        names |= {"colour": body, "marking_colour": mark, "accessory_colour": worn}
        extras = [f"{mark} {one.marking}", f"{worn} {one.accessory}"]
        prompt = describe(f"{body} {one.kind}", extras, look=[look])
        wishes.append(Wish(prompt, names | {question: look}))
    return wishes


def content_wishes(token: str, count: int, style: str | None = None) -> list[Wish]:
    """A subject, place after place, in a style or plain."""
    names = {"subject": token, "style": style or "plain", "class": SUBJECTS[token].kind}
    return [
        Wish(subject_prompt(token, place, style), names) for place in islice(cycle(PLACES), count)
    ]


def style_wishes(style: str, count: int) -> list[Wish]:
    """A style, class after class."""
    scenes = islice(zip(cycle(CLASSES), cycle(PLACES), strict=False), count)
    return [
        Wish(describe(kind, place=place, style=style), {"class": kind, "style": style})
        for kind, place in scenes
    ]


def look_wishes(token: str) -> list[Wish]:
    """A subject in each known look."""
    kind = f"{token} {SUBJECTS[token].kind}"
    return [
        Wish(describe(kind, place=place, look=[look]), {"subject": token, question: look})
        for (question, look), place in zip(_looks(), cycle(PLACES), strict=False)
    ]


def _looks() -> Iterator[tuple[str, str]]:
    return ((question, look) for question, looks in LOOKS.items() for look in looks)


def pair_wishes(subjects: tuple[str, ...], styles: tuple[str, ...], count: int) -> list[list[Wish]]:
    """Each subject in each style, a lane each."""
    return [content_wishes(token, count, style) for token, style in product(subjects, styles)]


def both(found: dict[str, np.ndarray]) -> dict[str, float]:
    """Shares of right subjects, styles and both, with 95 % intervals over lanes by bootstrap."""
    content, style = found["subject"], found["style"]
    rows = {"content": content, "style": style, "both": content * style}
    generator = np.random.default_rng(0)
    result: dict[str, float] = {}
    for name, values in rows.items():
        per = values.mean(1)
        drawn = per[generator.integers(len(per), size=(2000, len(per)))].mean(1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        result |= {name: float(per.mean()), f"{name}_low": float(low), f"{name}_high": float(high)}
    return result


def to_images(pictures: Tensor) -> np.ndarray:
    """(..., 3, 128, 128) in [0, 1] -> (..., 128, 128, 3) uint8."""
    return (pictures.movedim(-3, -1) * 255).round().to(torch.uint8).cpu().numpy()


def move(world: World) -> World:
    """Everything on the device, to draw with."""
    world.model.to(DEVICE).requires_grad_(False)
    world.vae.to(DEVICE).requires_grad_(False)
    return world
