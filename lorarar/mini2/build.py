"""Make the second small world's models from nothing.

python -m lorarar.mini2.build -o FOLDER

Each stage that is finished is kept, and a later call goes on after it; on a CPU also in the midst
of the long ones. See LOG.md for how long each takes on which machine.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from lorarar.command import run_script
from lorarar.mini2.lanes import beside
from lorarar.mini2.machine import DEVICE, Clock, precision, workers
from lorarar.mini2.plan import PLANS, Plan
from lorarar.mini2.report import report
from lorarar.mini2.samples import CHUNK, Sketches, begin
from lorarar.mini2.tuning import Tuning
from lorarar.training import identity
from lorarar.unfinished import held

STAGES = "judge", "vae", "base", "loras", "pairs"


def build(folder: Path, plan: Plan, sketches: Sketches, until: str = STAGES[-1]) -> None:
    """Fill `folder`: judge, vae, base and loras (.safetensors each), gates.json and pictures."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    last = STAGES.index(until)
    clock = Clock("build")
    clock.say(f"{DEVICE}, {precision()}")
    work = Tuning(folder, plan, sketches)
    work.judge()
    if last >= 1:
        work.vae()
    if last >= 2:
        world = work.base()
        clock.say("base")
    if last >= 3:
        recipes = work.sweep(world, plan.recipe)
        loras, names = work.loras(world, recipes)
        work.test_loras(world, loras, names)
        clock.say("LoRAs")
    if last >= 4:
        work.test_pairs(world, "direct", beside(*work.pairs(loras, names)))
        work.test_pairs(world, "joint", work.joint(world, recipes["content"]))
    for line in report(folder):
        print(line)
    clock.say("done")


def begin_for(folder: Path, plan: Plan, processes: int) -> Sketches:
    """Begin the drawings that are still needed."""
    judged = (folder / "judge.safetensors").exists()
    counts = 0 if judged else plan.judge_drawings // CHUNK, plan.drawings // CHUNK
    return begin(plan.tested, *counts, processes)


def main(
    output: Annotated[Path, typer.Option("--output", "-o")],
    plan: Annotated[str, typer.Option(help=", ".join(PLANS))] = DEVICE.type.replace("cuda", "gpu"),
    processes: Annotated[int, typer.Option(help="that draw beside the training")] = workers(),
    until: Annotated[str, typer.Option(help=", ".join(STAGES))] = STAGES[-1],
) -> None:
    """Train the judge, the small SDXL and its LoRAs; goes on after what is done."""
    sketches = begin_for(output, PLANS[plan], processes)  # before: what is forked holds it, too
    with held(output):
        identity.begin(output / "work", asdict(PLANS[plan]))
        build(output, PLANS[plan], sketches, until)


if __name__ == "__main__":
    run_script(main)
