"""Draw with a content and a style LoRA by every method there is, and let the judge look."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from itertools import cycle, islice, product
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import StableDiffusionXLPipeline
from rich.console import Console
from rich.progress import track
from torch import Tensor

from lorarar.artefacts.training import Entry, TrainingManifest
from lorarar.diffusion.generate import Ready, merged_into
from lorarar.diffusion.pipeline import draw, load_onto, put_lora, save_picture
from lorarar.diffusion.two_loras import PairedLinear
from lorarar.errors import LorararError
from lorarar.hypernet import Hypernet, Role
from lorarar.lora import Lora, load_lora
from lorarar.merge import coefficients, weighted_sum
from lorarar.methods import METHODS
from lorarar.methods.scheduled import SCHEDULED
from lorarar.mini.build import HYPERNET_RECIPE
from lorarar.mini.judge import Judge, ask
from lorarar.mini.things import CLASSES
from lorarar.mini.world import COLOURS, PLACES, SUBJECTS, describe
from lorarar.training.denoising import Examples, default_side, encode, naming_both
from lorarar.training.images import load_examples
from lorarar.training.lora import fit_adapter, load_prior
from lorarar.training.many import recipe_of
from lorarar.training.noise import training_scheduler
from lorarar.training.objective import together_loss
from lorarar.training.refine import refine_coefficients
from lorarar.training.ziplora import STEPS as ZIPLORA_STEPS
from lorarar.training.ziplora import descend, optimise

SINGLE = ("base", "content", "style")  # no LoRA, or one alone
REFINED = {f"refined-{steps}": steps for steps in (2, 5, 10, 20, 50, 100)}
ALL_METHODS = (*SINGLE, *METHODS, "ziplora", *SCHEDULED, "joint", "optimised", *REFINED)
STEPS, GUIDANCE = 20, 5.0
RATE = 0.03  # of learning, where coefficients are optimised for each pair
BASE_IMAGES = 10  # times as many, as there is one base only


@dataclass(frozen=True)
class Task:
    """What is drawn: with a content LoRA, a style LoRA, both or none, by name.

    method: one of `ALL_METHODS`.
    """

    method: str
    content: str | None
    style: str | None

    @property
    def key(self) -> str:
        """Name what is drawn, whichever the method."""
        return "-".join(filter(None, (self.content, self.style))) or "base"


@dataclass(frozen=True)
class Result:
    """Of one task: the share of images that show the right content, style and both.

    Content is the subject, or the class where no subject was asked for; style may be "plain".
    """

    content_right: float
    style_right: float
    both_right: float
    merge_seconds: float


@dataclass(kw_only=True)
class Studio:
    """What drawing needs. folder: of the results; images: per task."""

    folder: Path
    model: str | Path | None
    pipeline: StableDiffusionXLPipeline
    manifest: TrainingManifest
    hypernet: Hypernet
    judge: Judge
    images: int
    examples: dict[str, Examples] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """What every result depends on."""
        return {"images": self.images, "steps": STEPS, "guidance": GUIDANCE}

    def paths(self, task: Task) -> list[Path]:
        """Where the task's pictures are kept."""
        folder = self.folder / "pictures" / task.method
        return [folder / f"{task.key}-{number:02}.png" for number in range(self.images)]

    def entry(self, name: str) -> Entry:
        """Return what the manifest says of a LoRA."""
        return next(entry for entry in self.manifest.loras if entry.name == name)

    def lora(self, name: str) -> Lora:
        """Load a LoRA of the manifest."""
        return load_lora(self.entry(name).file)

    def known(self, name: str) -> Examples:
        """The images that a LoRA was trained on, encoded once."""
        if name not in self.examples:
            entry = self.entry(name)
            images = load_examples(entry.images, entry.prompt)
            self.examples[name] = encode(self.pipeline, images, default_side(self.pipeline))
        return self.examples[name]

    @cached_property
    def prior(self) -> Examples | None:
        """What the LoRAs' recipe keeps as it is, encoded once."""
        recipe, work = recipe_of(self.manifest), self.folder / "work" / "prior"
        return load_prior(self.pipeline, recipe, work, default_side(self.pipeline))


def tasks_of(method: str, manifest: TrainingManifest) -> list[Task]:
    """List what `method` has to draw of the held-out LoRAs."""
    content, style = ([e.name for e in manifest.of(kind, True)] for kind in ("content", "style"))
    pairs: dict[str, Any] = {
        "base": [(None, None)],
        "content": [(name, None) for name in content],
        "style": [(None, name) for name in style],
    }
    return [Task(method, *names) for names in pairs.get(method) or product(content, style)]


def prompts_of(task: Task, images: int) -> list[str]:
    """Place after place; without a content LoRA, class after class and colour after colour."""
    if task.content:
        things = [f"{task.content} {SUBJECTS[task.content].kind}"]
    else:
        pairs = islice(zip(cycle(COLOURS), cycle(CLASSES)), len(COLOURS) * len(CLASSES))
        things = [f"{colour} {kind}" for colour, kind in pairs]
    scenes = islice(zip(cycle(things), cycle(PLACES)), images)
    return [describe(thing, place, task.style) for thing, place in scenes]


def measure(studio: Studio, tasks: list[Task], console: Console) -> dict[Task, Result]:
    """Do what is not done yet; what is done is in `folder/results.jsonl`, with its pictures.

    Raises LorararError if the results there are damaged or were measured with other settings.
    """
    log = studio.folder / "results.jsonl"
    done = _read(log, studio.settings)
    missing = [task for task in tasks if task not in done]
    for task in track(missing, "drawing", console=console):
        result, pictures = _draw_and_judge(studio, task)
        for path, picture in zip(studio.paths(task), pictures, strict=False):
            path.parent.mkdir(parents=True, exist_ok=True)
            save_picture(picture, path, force=True)
        with log.open("a") as file:
            file.write(json.dumps({"task": asdict(task)} | asdict(result)) + "\n")
        done[task] = result
    return {task: done[task] for task in tasks}


def _read(log: Path, settings: dict) -> dict[Task, Result]:
    """The first line holds the settings, each other line a task with its result."""
    if not log.exists():
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(json.dumps(settings) + "\n")
    try:
        first, *lines = map(json.loads, log.read_text().splitlines())
        done = {Task(**line.pop("task")): Result(**line) for line in lines}
    except (ValueError, TypeError, KeyError) as error:
        raise LorararError(f"{log}: damaged ({error}); remove it to measure anew") from error
    if first != settings:
        raise LorararError(
            f"{log}: was measured with {first}, not {settings}; remove it or name another folder"
        )
    return done


def _draw_and_judge(studio: Studio, task: Task) -> tuple[Result, Tensor]:
    """Draw with seeds 0, 1, ...; the pictures are (images, 3, side, side)."""
    images = studio.images * (1 if task.content or task.style else BASE_IMAGES)
    prompts = prompts_of(task, images)
    with _ready(studio, task) as ready:
        batches = [
            draw(
                studio.pipeline,
                prompts[start : start + studio.images],
                list(range(start, start + studio.images)),
                STEPS,
                guidance=GUIDANCE,
                **ready.arguments,
            )
            for start in range(0, images, studio.images)
        ]
    pictures = (torch.cat(batches) * 255).round() / 255  # as they are written, for other judges
    said = ask(studio.judge, pictures)
    if task.content:
        content = [answer == task.content for answer in said["subject"]]
    else:
        content = [a == prompt.split()[2] for a, prompt in zip(said["class"], prompts, strict=True)]
    style = [answer == (task.style or "plain") for answer in said["style"]]
    both = [a and b for a, b in zip(content, style, strict=True)]
    return Result(mean(content), mean(style), mean(both), ready.merge_seconds), pictures


@contextmanager
def _ready(studio: Studio, task: Task) -> Iterator[Ready]:
    names = [name for name in (task.content, task.style) if name]
    if task.method not in (*SINGLE, *PER_PAIR):
        pair = [studio.lora(name) for name in names]
        with merged_into(
            studio.pipeline, pair[0], pair[1], task.method, hypernet=studio.hypernet
        ) as ready:
            yield ready
        return
    for name in names:
        studio.known(name)  # what is encoded once counts for nobody's merge
    started = time.perf_counter()
    lora: Lora | None
    if task.method in PER_PAIR:
        lora = PER_PAIR[task.method](studio, *names)
    else:
        lora = studio.lora(names[0]) if names else None
    ready = Ready(time.perf_counter() - started, {})
    put_lora(studio.pipeline, lora)
    try:
        yield ready
    finally:
        put_lora(studio.pipeline, None)


def _ziplora(studio: Studio, content: str, style: str) -> Lora:
    pair = studio.lora(content), studio.lora(style)
    scheduler = training_scheduler(studio.pipeline)
    examples: dict[Role, Examples] = {
        "content": studio.known(content),
        "style": studio.known(style),
    }
    m = optimise(studio.pipeline.unet, scheduler, *pair, examples=examples, after_step=lambda: None)
    return weighted_sum(*pair, m)


def _optimised(studio: Studio, content: str, style: str) -> Lora:
    """Coefficients optimised for this pair, on what LoRA.rar's hypernetwork is trained for here."""
    pair, pipeline = (studio.lora(content), studio.lora(style)), studio.pipeline
    scheduler = training_scheduler(pipeline)
    subject, phrase = studio.entry(content), studio.entry(style).phrase
    prompts = [example.prompt for example in load_examples(subject.images, subject.prompt)]

    def add_gradients(paired: Mapping[str, PairedLinear], m: Mapping[str, Tensor]) -> None:
        ours, theirs = (studio.known(n).sample(HYPERNET_RECIPE.batch) for n in (content, style))
        both = naming_both(pipeline, ours.concatenate(theirs), prompts, phrase)
        together_loss(pipeline.unet, paired, m, both, scheduler=scheduler)

    m = descend(pipeline.unet, *pair, add_gradients, steps=ZIPLORA_STEPS, learning_rate=RATE)
    return weighted_sum(*pair, m)


def _joint(studio: Studio, content: str, style: str) -> Lora:
    """One LoRA trained on both sets of images, of both ranks, in as many steps as one of them."""
    recipe = recipe_of(studio.manifest)
    recipe = replace(recipe, rank=2 * recipe.rank)
    accelerator = Accelerator(mixed_precision=recipe.precision)
    pipeline = load_onto(accelerator.device, studio.model, recipe.precision)
    key = Task("joint", content, style).key
    work = studio.folder / "work" / key
    both = studio.known(content).concatenate(studio.known(style))
    lora = fit_adapter(
        pipeline,
        both,
        recipe,
        accelerator,
        work=work,
        label=f"joint: {key}",
        prior=studio.prior,
    )
    shutil.rmtree(work)
    return lora


def _refined(studio: Studio, content: str, style: str, steps: int) -> Lora:
    """LoRA.rar refined for this pair, on pictures that the model draws itself."""
    pair = studio.lora(content), studio.lora(style)
    prompt = f"{studio.entry(content).prompt} {studio.entry(style).phrase}"
    work = studio.folder / "work" / Task(f"refined-{steps}", content, style).key
    m = coefficients(*pair, studio.hypernet)
    m = refine_coefficients(studio.pipeline, *pair, m, prompt, steps=steps, work=work)
    shutil.rmtree(work)
    return weighted_sum(*pair, m)


PER_PAIR: dict[str, Callable[[Studio, str, str], Lora]] = {
    "ziplora": _ziplora,
    "joint": _joint,
    "optimised": _optimised,  # up to here they need the images of both LoRAs
    **{name: partial(_refined, steps=steps) for name, steps in REFINED.items()},
}
