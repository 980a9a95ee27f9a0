"""Does the merge draw the subject in the style? Every method on the held-out pairs, judged.

python benchmarks/quality.py -o quality
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Any

import torch
import typer
from matplotlib.image import imread

from lorarar.artefacts.training import check_trained, load_manifest
from lorarar.benchmarks.machine import describe
from lorarar.benchmarks.pictures import (
    ALL_METHODS,
    SINGLE,
    Result,
    Studio,
    Task,
    measure,
    prompts_of,
    tasks_of,
)
from lorarar.benchmarks.report import Report, make_console, publish
from lorarar.command import run_script
from lorarar.diffusion.pipeline import load_pipeline
from lorarar.embedded import EMBEDDED
from lorarar.errors import LorararError
from lorarar.evaluate.scores import interval
from lorarar.files import write_atomically
from lorarar.hypernet import load_hypernet
from lorarar.mini.judge import accuracy, load_judge
from lorarar.mini.pictures import draw_training_images
from lorarar.plot import plot_pictures

GRID = ("content", "style", "direct", "ties", "klora", "ziplora", "joint", "optimised", "lorarar")
NOTES = [
    "content, style, both: share of images that the judge finds right, with 95 % intervals "
    "(bootstrap over pairs); content of base and style is the class, style of base and content "
    "is plain.",
    "merge: median over pairs, from LoRAs in memory or mapped to merged factors; joint: training; "
    "optimised: coefficients of each pair, 100 steps down the hypernetwork's objective.",
]

Output = Annotated[Path, typer.Option("--output", "-o", help="folder; goes on if it exists")]
Assets = Annotated[Path, typer.Option(help="what lorarar.mini.build made")]
Images = Annotated[int, typer.Option(min=1, help="per pair")]
Threads = Annotated[int, typer.Option(min=1)]
THREADS = torch.get_num_threads()


def summarise(method: str, results: list[Result], ziplora_seconds: float | None) -> dict[str, Any]:
    """One row of the table: means, intervals over tasks, median merge time."""
    row: dict[str, Any] = {"name": method, "tasks": len(results)}
    for what in ("content", "style", "both"):
        shares = [getattr(result, f"{what}_right") for result in results]
        low, high = interval(shares)
        row |= {what: mean(shares), f"{what}_low": low, f"{what}_high": high}
    seconds = None if method in SINGLE else median(result.merge_seconds for result in results)
    row["merge_ms"] = seconds and seconds * 1e3
    row["times_ziplora"] = ziplora_seconds / seconds if seconds and ziplora_seconds else None
    return row


def summarise_all(measured: dict[Task, Result]) -> list[dict[str, Any]]:
    """One row per method, in the order of the tasks."""
    by_method: dict[str, list[Result]] = {}
    for task, result in measured.items():
        by_method.setdefault(task.method, []).append(result)
    ziplora = by_method.get("ziplora")
    seconds = median(result.merge_seconds for result in ziplora) if ziplora else None
    return [summarise(method, results, seconds) for method, results in by_method.items()]


def refuse_unknown(methods: list[str], known: Sequence[str]) -> None:
    """Raise LorararError if `--method` names what is not among the known."""
    unknown = set(methods) - set(known)
    if unknown:
        raise LorararError(f"--method {' '.join(unknown)}: unknown; use {', '.join(known)}")


def open_studio(folder: Path, assets: Path, images: int) -> Studio:
    """Load base/, loras/, hypernet.safetensors and judge.safetensors from `assets`."""
    draw_training_images(assets / "loras")
    manifest = load_manifest(assets / "loras")
    check_trained(manifest, held_out=True)
    return Studio(
        folder=folder,
        model=assets / "base",
        pipeline=load_pipeline(assets / "base"),
        manifest=manifest,
        hypernet=load_hypernet(assets / "hypernet.safetensors"),
        judge=load_judge(assets / "judge.safetensors"),
        images=images,
    )


def save_grid(studio: Studio, methods: list[str], path: Path) -> None:
    """Each held-out subject with another held-out style, the first seed, a column per method."""
    content, style = ([e.name for e in studio.manifest.of(k, True)] for k in ("content", "style"))
    rows = {}
    for pair in zip(content, style, strict=True):
        alone = {"content": (pair[0], None), "style": (None, pair[1])}
        tasks = [Task(method, *alone.get(method, pair)) for method in methods]
        rows["\n".join(pair)] = [imread(studio.paths(task)[0]) for task in tasks]
    plot_pictures(rows, methods, path, force=True)


def write_manifest(studio: Studio, tasks: list[Task]) -> None:
    """What `lorarar evaluate FOLDER/pictures --judge embedded` reads."""
    folder = studio.folder / "pictures"
    lines = [
        {
            "file_name": path.relative_to(folder).as_posix(),
            "method": task.method,
            "subject": task.content or prompt.split()[2],
            "style": task.style or "plain",
            "prompt": prompt,
        }
        for task in tasks
        for path, prompt in zip(studio.paths(task), prompts_of(task, studio.images), strict=True)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write_atomically(folder / "metadata.jsonl", lambda file: file.write(text.encode()), force=True)


def main(
    output: Output,
    method: Annotated[
        list[str],
        typer.Option(default_factory=lambda: [*ALL_METHODS], help="may be given several times"),
    ],
    assets: Assets = EMBEDDED,
    images: Images = 10,
    threads: Threads = THREADS,
) -> None:
    """Draw and judge; writes quality.json, grid.png and the pictures into a folder."""
    console = make_console()
    torch.set_num_threads(threads)
    refuse_unknown(method, ALL_METHODS)
    studio = open_studio(output, assets, images)
    right = {f"judge_{question}": share for question, share in accuracy(studio.judge).items()}
    console.print("judge on fresh drawings:", right, highlight=False)
    tasks = [task for each in method for task in tasks_of(each, studio.manifest)]
    rows = summarise_all(measure(studio, tasks, console))
    write_manifest(studio, tasks)
    settings = studio.settings | right | {"threads": threads, "dtype": "float32"}
    report = Report(
        benchmark="quality", machine=describe(), settings=settings, rows=rows, notes=list(NOTES)
    )
    publish(report, console, output / "quality.json")
    shown = [each for each in GRID if each in method]
    if shown:
        save_grid(studio, shown, output / "grid.png")


if __name__ == "__main__":
    run_script(main)
