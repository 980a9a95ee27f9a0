"""Does quantising change the pictures? Exported pipelines beside torch, same noise, judged.

python benchmarks/exported_quality.py --exported onnx-int8 --exported onnx-int4
"""

from pathlib import Path
from statistics import mean, median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track

from lorarar.artefacts.formats import FORMATS
from lorarar.artefacts.pipeline import read_manifest
from lorarar.artefacts.training import load_manifest
from lorarar.benchmarks.machine import alone, describe
from lorarar.benchmarks.pictures import GUIDANCE, STEPS, Task, prompts_of
from lorarar.benchmarks.report import Report, make_console, publish
from lorarar.command import run_script
from lorarar.diffusion.pipeline import draw, load_pipeline, put_lora, runtime_noise
from lorarar.embedded import EMBEDDED, HYPERNET, LORAS, find_lora
from lorarar.hypernet import load_hypernet
from lorarar.lora import load_lora
from lorarar.methods import merge
from lorarar.mini.judge import ask, load_judge
from lorarar.numeric import psnr
from lorarar.runtime.pipeline import Pipeline

SAME = 99.0  # dB, where nothing differs
NOTES = [
    "class, plain: share of the base's pictures that the judge finds right; both: of held-out "
    "pairs, merged by LoRA.rar, subject and style; PSNR: of all pictures, beside torch in float32 "
    "with the same noise, after all steps and 8 bits a channel.",
]


def tasks(pairs: int, images: int) -> list[tuple[Task, list[str]]]:
    """The base's pictures, then as many of each of the first held-out pairs, one style each."""
    manifest = load_manifest(LORAS)
    content, style = ([e.name for e in manifest.of(kind, True)] for kind in ("content", "style"))
    chosen = [Task("lorarar", *pair) for pair in zip(content, style, strict=True)][:pairs]
    base = Task("base", None, None)
    return [(task, prompts_of(task, images)) for task in (base, *chosen)]


def by_torch(work: list[tuple[Task, list[str]]]) -> list[np.ndarray]:
    """Draw every prompt with its number as seed; (images, side, side, 3) uint8 for each task."""
    pipeline, hypernet = load_pipeline(), load_hypernet(HYPERNET)
    drawn = []
    for task, prompts in work:
        if task.content and task.style:
            pair = [load_lora(find_lora(name)) for name in (task.content, task.style)]
            put_lora(pipeline, merge(pair[0], pair[1], hypernet=hypernet))
        pictures = []
        for seed, prompt in enumerate(prompts):
            latents = runtime_noise(pipeline, seed)
            picture = draw(pipeline, [prompt], [0], STEPS, guidance=GUIDANCE, latents=latents)[0]
            pictures.append((picture.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
        drawn.append(np.stack(pictures))
    return drawn


def by_export(work: list[tuple[Task, list[str]]], folder: Path, threads: int) -> list[np.ndarray]:
    """The same by an exported pipeline."""
    pipeline = Pipeline.load(folder, FORMATS[read_manifest(folder).engine].engine, threads)
    drawn = []
    for task, prompts in track(work, folder.name, console=Console(stderr=True)):
        if task.content and task.style:
            pipeline.set_pair(find_lora(task.content), find_lora(task.style))
        pictures = [
            np.asarray(pipeline.generate(prompt, steps=STEPS, guidance=GUIDANCE, seed=seed))
            for seed, prompt in enumerate(prompts)
        ]
        drawn.append(np.stack(pictures))
    return drawn


def judged(
    name: str,
    work: list[tuple[Task, list[str]]],
    drawn: list[np.ndarray],
    *,
    wanted: list[np.ndarray],
    megabytes: float | None,
) -> dict[str, Any]:
    """One row of the table: shares that the judge finds right, and PSNR to what is wanted."""
    judge = load_judge(EMBEDDED / "judge.safetensors")
    said = [ask(judge, torch.from_numpy(each).permute(0, 3, 1, 2) / 255) for each in drawn]
    classes = [prompt.split()[2] for prompt in work[0][1]]
    right = {
        "class": mean(a == b for a, b in zip(said[0]["class"], classes, strict=True)),
        "plain": mean(answer == "plain" for answer in said[0]["style"]),
        "both": mean(
            subject == task.content and style == task.style
            for (task, _), answers in zip(work[1:], said[1:], strict=True)
            for subject, style in zip(answers["subject"], answers["style"], strict=True)
        ),
    }
    ratios = [
        min(psnr(one / np.float32(255), other / np.float32(255)), SAME)
        for found, reference in zip(drawn, wanted, strict=True)
        for one, other in zip(found, reference, strict=True)
    ]
    decibels = {
        "above_35_db": mean(ratio >= 35 for ratio in ratios),
        "median_psnr_db": median(ratios),
        "lowest_psnr_db": min(ratios),
    }
    return {"name": name, "mb": megabytes} | right | decibels


def main(
    exported: Annotated[list[Path], typer.Option(help="may be given several times")],
    pairs: Annotated[int, typer.Option(min=1, max=6)] = 6,
    images: Annotated[int, typer.Option(min=1, help="of the base, and of each pair")] = 48,
    threads: Annotated[int, typer.Option(min=1)] = torch.get_num_threads(),
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
) -> None:
    """Draw with the embedded model, and let the judge look."""
    work = tasks(pairs, images)
    torch.set_num_threads(threads)
    wanted = by_torch(work)
    rows = [judged("torch, float32", work, wanted, wanted=wanted, megabytes=None)]
    for folder in exported:
        size = sum(size for size, _ in read_manifest(folder).files.values()) / 1e6
        drawn, _ = alone(by_export, work, folder, threads)
        rows.append(judged(folder.name, work, drawn, wanted=wanted, megabytes=size))
    settings = {"pairs": pairs, "images": images, "steps": STEPS, "threads": threads}
    report = Report(
        benchmark="exported_quality", machine=describe(), settings=settings, rows=rows, notes=NOTES
    )
    publish(report, make_console(), json)


if __name__ == "__main__":
    run_script(main)
