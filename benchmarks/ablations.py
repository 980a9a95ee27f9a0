"""What makes the hypernetwork good? One change at a time, trained and judged on held-out pairs.

lorarar train-many lorarar/mini/assets/loras  # once: what to train on
python benchmarks/ablations.py -o ablations
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from lorarar.benchmarks.machine import describe
from lorarar.benchmarks.pictures import measure, tasks_of
from lorarar.benchmarks.quality import (
    THREADS,
    Assets,
    Images,
    Output,
    Threads,
    open_studio,
    summarise,
)
from lorarar.benchmarks.report import Report, make_console, publish
from lorarar.command import run_script
from lorarar.embedded import EMBEDDED
from lorarar.hypernet import load_hypernet
from lorarar.mini.build import HYPERNET_RECIPE
from lorarar.mini.pictures import draw_training_images
from lorarar.training.hypernet import train_hypernet
from lorarar.training.loop import LOSSES
from lorarar.training.recipes import HypernetRecipe

CHANGED = ("hidden", "predicts", "similarity", "learning_rate", "objective", "offsets", "decay")
PUBLISHED = {name: getattr(HypernetRecipe, name) for name in CHANGED}
CHANGES: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "as published": PUBLISHED,
    "as published, lambda 0": PUBLISHED | {"similarity": 0.0},
    "published objective": {"objective": "published"},
    "no offsets": {"offsets": 0.0},
    "offsets alone": {"learning_rate": 0.0},
    "predicts q, out": {"predicts": HypernetRecipe.predicts},
    "hidden 64": {"hidden": 64},
    "lambda 0.01": {"similarity": 0.01},
    "20 pairs": {"pairs": 20},
    "60 pairs": {"pairs": 60},
}
NOTE = (
    "validation: best loss of each one's objective, on training LoRAs' pairs that were not trained "
    "on; content, style, both: share of images of held-out pairs that the judge finds right, with "
    "95 % intervals."
)


def ablate(folder: Path, assets: Path, images: int, console: Console) -> list[dict[str, Any]]:
    """Train and judge each change."""
    draw_training_images(assets / "loras")
    rows = {}
    for name, change in CHANGES.items():
        place = folder / name.replace(",", "").replace(" ", "-")
        checkpoint = place / "hypernet.safetensors"
        if not checkpoint.exists():
            train_hypernet(
                assets / "base", assets / "loras", checkpoint, replace(HYPERNET_RECIPE, **change)
            )
        studio = open_studio(place, assets, images)
        studio.hypernet = load_hypernet(checkpoint)
        results = measure(studio, tasks_of("lorarar", studio.manifest), console)
        row = summarise(name, [*results.values()], None)
        losses = checkpoint.with_name(f"{checkpoint.name}.training") / LOSSES
        lines = map(json.loads, losses.read_text().splitlines())
        validation = min(line["validation"] for line in lines if "validation" in line)
        del row["times_ziplora"]
        rows[name] = row | {"validation": validation}
    return [*rows.values()]


def main(
    output: Output,
    assets: Assets = EMBEDDED,
    images: Images = 10,
    threads: Threads = THREADS,
) -> None:
    """Train and judge hypernetworks; writes ablations.json into a folder."""
    console = make_console()
    torch.set_num_threads(threads)
    rows = ablate(output, assets, images, console)
    settings = {"images": images, "steps": HYPERNET_RECIPE.steps, "threads": threads}
    report = Report(
        benchmark="ablations", machine=describe(), settings=settings, rows=rows, notes=[NOTE]
    )
    publish(report, console, output / "ablations.json")


if __name__ == "__main__":
    run_script(main)
