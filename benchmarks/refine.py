"""What are a few steps for one pair worth? LoRA.rar refined by more and more of them, judged.

python benchmarks/refine.py -o refined --pairs 6
"""

from typing import Annotated

import torch
import typer

from lorarar.benchmarks.machine import describe
from lorarar.benchmarks.pictures import REFINED, Task, measure
from lorarar.benchmarks.quality import (
    THREADS,
    Assets,
    Images,
    Output,
    Threads,
    open_studio,
    refuse_unknown,
    summarise_all,
)
from lorarar.benchmarks.report import Report, make_console, publish
from lorarar.command import run_script
from lorarar.embedded import EMBEDDED
from lorarar.hypernet import ROLES

COMPARED = ("lorarar", *REFINED, "ziplora")
NOTES = [
    "content, style, both: share of images that the judge finds right, with 95 % intervals "
    "(bootstrap over pairs).",
    "refined-N: N steps from LoRA.rar's coefficients, without anybody's pictures; merge: median "
    "over pairs, the drawing of its own pictures included.",
]


def pairs_by_turns(content: list[str], style: list[str]) -> list[tuple[str, str]]:
    """All pairs; the first ones have each content LoRA once, with another style LoRA."""
    return [
        (name, style[(number + turn) % len(style)])
        for turn in range(len(style))
        for number, name in enumerate(content)
    ]


def main(
    output: Output,
    method: Annotated[
        list[str],
        typer.Option(default_factory=lambda: [*COMPARED], help="may be given several times"),
    ],
    pairs: Annotated[
        int | None, typer.Option(min=1, help="the first so many; all by default")
    ] = None,
    assets: Assets = EMBEDDED,
    images: Images = 10,
    threads: Threads = THREADS,
) -> None:
    """Draw and judge; writes refine.json and the pictures into a folder."""
    console = make_console()
    torch.set_num_threads(threads)
    refuse_unknown(method, COMPARED)
    studio = open_studio(output, assets, images)
    roles = ([e.name for e in studio.manifest.of(kind, held_out=True)] for kind in ROLES)
    chosen = pairs_by_turns(*roles)[:pairs]
    tasks = [Task(each, *pair) for pair in chosen for each in method]
    rows = summarise_all(measure(studio, tasks, console))
    settings = studio.settings | {"pairs": len(chosen), "threads": threads, "dtype": "float32"}
    report = Report(
        benchmark="refine", machine=describe(), settings=settings, rows=rows, notes=list(NOTES)
    )
    publish(report, console, output / "refine.json")


if __name__ == "__main__":
    run_script(main)
