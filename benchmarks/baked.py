"""What is left of a LoRA that is baked into 4- or 8-bit weights, beside ours at run time?

python benchmarks/baked.py
python benchmarks/baked.py --numbers

Three forms of one quantised layer, with the numbers that our ONNX export stores:

- slots: Q(W) + dW, as we draw: the LoRA stays beside the quantised weights;
- baked, then quantised: Q(W + dW), which takes the float32 model for every LoRA;
- baked into quantised: Q(Q(W) + dW), which is all that can be done where only Q(W) is.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from lorarar.artefacts.training import load_manifest
from lorarar.bases import SHAPES
from lorarar.benchmarks.machine import describe
from lorarar.benchmarks.pictures import GUIDANCE, STEPS, Task, prompts_of, tasks_of
from lorarar.benchmarks.report import Report, make_console, publish
from lorarar.command import run_script
from lorarar.diffusion.pipeline import draw, load_pipeline
from lorarar.embedded import EMBEDDED, HYPERNET, LORAS, find_lora
from lorarar.evaluate.scores import interval
from lorarar.export.onnx.quantise import dequantise, quantise, quantise_filters
from lorarar.hypernet import Hypernet, load_hypernet
from lorarar.lora import Lora, load_lora
from lorarar.merge import materialise
from lorarar.methods import merge
from lorarar.mini.judge import Judge, ask, load_judge
from lorarar.numeric import psnr

Form = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
BITS = 8, 4
RANK = 64
SIZES = 0.005, 0.01, 0.03, 0.1  # |dW| / |W|; the third: where mflux #665 finds no effect
NOTES = [
    "change percent: |dW| / |W|; survives, kept norm, cosine: of the change that the form makes to "
    "the quantised weights, <change, dW> / |dW|^2, |change| / |dW| and the cosine between them; "
    "error: of the weights, |W' - (W + dW)| / |dW|. Medians over layers and LoRAs.",
]
PICTURE_NOTES = [
    "right: share of pictures that the judge finds right (a subject LoRA's subject, a style "
    "LoRA's style, both of a pair merged by LoRA.rar), with 95 % intervals (bootstrap over LoRAs); "
    "PSNR: median, beside float32 with the same LoRA and noise. LoRAs are held out.",
    "Every Linear and Conv2d of the UNet is quantised as exported; products are float32.",
]


def stored(weight: np.ndarray, bits: int) -> np.ndarray:
    """What `bits` keep of a matrix (out, in): quantised as it is exported, and widened again."""
    return dequantise(*quantise(weight, bits), bits, weight.shape[1])


FORMS: dict[str, Form] = {
    "slots": lambda weight, change, bits: stored(weight, bits) + change,
    "baked, then quantised": lambda weight, change, bits: stored(weight + change, bits),
    "baked into quantised": lambda weight, change, bits: stored(
        stored(weight, bits) + change, bits
    ),
}


@dataclass(frozen=True)
class Survival:
    """Of one layer's change; see `NOTES`."""

    change_percent: float
    survives: float
    kept_norm: float
    cosine: float
    error: float


def survival(form: Form, weight: np.ndarray, change: np.ndarray, bits: int) -> Survival:
    """Compare what a form makes of a weight and a LoRA's change of it, both (out, in) float32."""
    made = form(weight, change, bits)
    found = made - stored(weight, bits)
    wanted, kept = length(change), length(found)
    along = float(np.vdot(found, change)) / wanted
    return Survival(
        change_percent=100 * wanted / length(weight),
        survives=along / wanted,
        kept_norm=kept / wanted,
        cosine=along / kept if kept else 0.0,
        error=length(made - weight - change) / wanted,
    )


def length(matrix: np.ndarray) -> float:
    return float(np.linalg.norm(matrix))


def medians(measured: list[Survival]) -> dict[str, float]:
    names = Survival.__dataclass_fields__
    return {name: float(median(getattr(each, name) for each in measured)) for name in names}


Layers = dict[str, tuple[np.ndarray, np.ndarray]]  # weight and change, both of norm 1


def seeded_layers() -> Layers:
    """Random weights and changes of rank 64, in each shape of SDXL's projections."""
    generator = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape, np.float32)

    return {
        f"{out}x{width}": (unit(normal(out, width)), unit(normal(out, RANK) @ normal(RANK, width)))
        for out, width in sorted(set(SHAPES["sdxl"].values()))
    }


def trained_layers() -> Layers:
    """The embedded model's, with one of its LoRAs."""
    model = Model.load()
    changes = model.changes(tasks_by_kind()["subject"][0])
    return {name: (unit(model.weights[name]), unit(change)) for name, change in changes.items()}


def unit(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.float32(length(matrix))


def by_size() -> Iterator[dict[str, Any]]:
    """A row for each kind of weights, size of the LoRA, number of bits and form."""
    sources = {"SDXL's widths, seeded": seeded_layers(), "embedded, trained": trained_layers()}
    for source, layers in sources.items():
        for size, bits in product(SIZES, BITS):
            scaled = [(weight, np.float32(size) * change) for weight, change in layers.values()]
            step = median(
                float(np.median(np.abs(quantise(weight, bits)[1])) / change.std())
                for weight, change in scaled
            )
            for name, form in FORMS.items():
                measured = [survival(form, weight, change, bits) for weight, change in scaled]
                about = {"weights": source, "name": name, "bits": bits, "step_over_change": step}
                yield about | medians(measured)


@dataclass(frozen=True)
class Model:
    """The embedded model with its judge; weights: of the UNet's Linear and Conv2d layers."""

    pipeline: Any
    weights: dict[str, np.ndarray]
    hypernet: Hypernet
    judge: Judge

    @classmethod
    def load(cls) -> "Model":
        pipeline = load_pipeline()
        weights = {
            name: module.weight.detach().numpy().copy()
            for name, module in pipeline.unet.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d)
        }
        judge = load_judge(EMBEDDED / "judge.safetensors")
        return cls(pipeline, weights, load_hypernet(HYPERNET), judge)

    def changes(self, task: Task) -> dict[str, np.ndarray]:
        """dW by layer, (out, in) float32, of the task's LoRA or of its merged pair."""
        loras = [load_lora(find_lora(name)) for name in (task.content, task.style) if name]
        if len(loras) == 1:
            return dense(loras[0])
        content, style = loras
        return dense(merge(content, style, hypernet=self.hypernet))

    def put(self, weights: Mapping[str, np.ndarray]) -> None:
        """Let the UNet draw with these weights, the others as they were made."""
        for name, weight in (self.weights | dict(weights)).items():
            self.pipeline.unet.get_submodule(name).weight.data.copy_(torch.from_numpy(weight))

    def draw(self, task: Task, images: int) -> Tensor:
        seeds = list(range(images))
        return draw(
            self.pipeline, prompts_of(task, images), seeds, STEPS, guidance=GUIDANCE
        )  # (images, 3, side, side)

    def right(self, task: Task, pictures: Tensor) -> float:
        """Share of pictures in which the judge finds what the task's LoRAs are for."""
        said = ask(self.judge, pictures)
        return mean(
            task.content in (None, subject) and task.style in (None, style)
            for subject, style in zip(said["subject"], said["style"], strict=True)
        )


def dense(lora: Lora) -> dict[str, np.ndarray]:
    return {
        name.removeprefix("unet."): np.float32(layer.scale)
        * (np.asarray(layer.up, np.float32) @ np.asarray(layer.down, np.float32))
        for name, layer in materialise(lora).layers.items()
    }


def quantised(weight: np.ndarray, bits: int) -> np.ndarray:
    """A layer's weight as exported without a LoRA: convolutions have 8 bits always."""
    if weight.ndim == 2:
        return stored(weight, bits)
    numbers, scales = quantise_filters(weight)
    return numbers * scales.reshape(-1, 1, 1, 1)


def weights_of(model: Model, form: Form, bits: int, changes: Mapping[str, np.ndarray]) -> dict:
    """Every layer's weight with a LoRA in one form."""
    return {
        name: form(weight, changes[name], bits) if name in changes else quantised(weight, bits)
        for name, weight in model.weights.items()
    }


def tasks_by_kind() -> dict[str, list[Task]]:
    """The held-out LoRAs, each alone, and each subject with one style."""
    manifest = load_manifest(LORAS)
    subjects, styles = tasks_of("content", manifest), tasks_of("style", manifest)
    pairs = [
        Task("lorarar", subject.content, style.style)
        for subject, style in zip(subjects, styles, strict=True)
    ]
    return {"subject": subjects, "style": styles, "pair": pairs}


@dataclass(frozen=True)
class Drawn:
    """How one task's pictures came out."""

    right: float
    psnr: list[float]
    survivals: list[Survival]


Wanted = tuple[dict[str, np.ndarray], Tensor]  # a task's changes, and float32's pictures


def in_float32(model: Model, task: Task, images: int) -> tuple[dict[str, Drawn], Wanted]:
    """Draw with the LoRA and without, for comparison; also returns what the others should be."""
    changes = model.changes(task)
    model.put({name: model.weights[name] + change for name, change in changes.items()})
    wanted = model.draw(task, images)
    model.put({})
    without = model.draw(task, images)
    drawn = {
        "float32, no LoRA": Drawn(model.right(task, without), ratios(without, wanted), []),
        "float32": Drawn(model.right(task, wanted), [], []),
    }
    return drawn, (changes, wanted)


def in_form(
    model: Model, task: Task, images: int, form: Form, bits: int, *, wanted: Wanted
) -> Drawn:
    """Draw one task with one form of the weights."""
    changes, pictures = wanted
    model.put(weights_of(model, form, bits, changes))
    drawn = model.draw(task, images)
    survivals = [
        survival(form, model.weights[name], change, bits) for name, change in changes.items()
    ]
    return Drawn(model.right(task, drawn), ratios(drawn, pictures), survivals)


def ratios(found: Tensor, wanted: Tensor) -> list[float]:
    return [psnr(one.numpy(), other.numpy()) for one, other in zip(found, wanted, strict=True)]


def summarise(
    kind: str, name: str, bits: int | None, drawn: list[Drawn]
) -> dict[str, str | int | float | None]:
    """One row of the table."""
    low, high = interval([each.right for each in drawn])
    decibels = [ratio for each in drawn for ratio in each.psnr]
    measured = [each for task in drawn for each in task.survivals]
    blank = dict.fromkeys(Survival.__dataclass_fields__)
    return {
        "kind": kind,
        "name": name,
        "bits": bits,
        "right": mean(each.right for each in drawn),
        "right_low": low,
        "right_high": high,
        "psnr_db": median(decibels) if decibels else None,
    } | (medians(measured) if measured else blank)


def by_picture(images: int) -> Iterator[dict[str, Any]]:
    """A row for each kind of LoRA, number of bits and form, on the embedded model."""
    model = Model.load()
    for kind, tasks in tasks_by_kind().items():
        collected: dict[tuple[str, int | None], list[Drawn]] = {}
        for task in track(tasks, kind, console=Console(stderr=True)):
            plain, wanted = in_float32(model, task, images)
            for name, drawn in plain.items():
                collected.setdefault((name, None), []).append(drawn)
            for bits in BITS:
                for name, form in FORMS.items():
                    drawn = in_form(model, task, images, form, bits, wanted=wanted)
                    collected.setdefault((name, bits), []).append(drawn)
        for (name, width), each in collected.items():
            yield summarise(kind, name, width, each)


def main(
    numbers: Annotated[
        bool, typer.Option("--numbers", help="of weights only, for LoRAs of several sizes")
    ] = False,
    images: Annotated[int, typer.Option(min=1, help="of each LoRA and pair")] = 10,
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
) -> None:
    """Bake LoRAs into few bits, and look at the weights and, of the embedded model, at pictures."""
    settings: dict[str, Any]
    if numbers:
        rows = list(by_size())
        notes = ["step over change: of quantisation, over the deviation of dW.", *NOTES]
        settings = {"rank": RANK}
    else:
        rows, notes = list(by_picture(images)), [*PICTURE_NOTES, *NOTES]
        settings = {"base": "mini", "images": images, "steps": STEPS, "guidance": GUIDANCE}
    report = Report(
        benchmark="baked", machine=describe(), settings=settings, rows=rows, notes=notes
    )
    publish(report, make_console(), json)


if __name__ == "__main__":
    run_script(main)
