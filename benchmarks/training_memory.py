"""What memory and time does training take? The real commands on a base's true architecture.

python benchmarks/training_memory.py --base koala-700m
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from lorarar.artefacts.training import TRAINING_FORMAT
from lorarar.bases import BASES, Base, attention_shapes
from lorarar.benchmarks.machine import describe, describe_gpu, peak_gpu_memory, run_and_watch
from lorarar.benchmarks.report import Report, make_console, publish
from lorarar.command import run_script
from lorarar.diffusion.pipeline import fastest_device
from lorarar.diffusion.standin import standin_pipeline
from lorarar.lora import Lora
from lorarar.mini.world import SUBJECTS, draw, random_scene
from lorarar.save import save_lora
from lorarar.standin import BaseName, standin_layers
from lorarar.training.images import write_examples

NAMES = {"content": ("one", "two"), "style": ("ink", "neon")}
NOTE = (
    "peak: most memory the whole command held, loading included, with gradient checkpointing, "
    "bfloat16 and batch 1; train-lora holds one LoRA with its optimiser, train two LoRAs and H; "
    "gpu: with what CUDA itself takes; step: what each after the first adds to the command."
)


def measure(name: BaseName, folder: Path, *, side: int, rank: int, steps: int) -> list[dict]:
    """Run `train-lora` and `train` on a stand-in of the base, for one step and for `steps`."""
    model = folder / "model"
    pipeline = standin_pipeline(BASES[name], torch.bfloat16, side // 8, fastest_device())
    parameters = sum(weight.numel() for weight in pipeline.unet.parameters())
    pipeline.save_pretrained(model)
    del pipeline
    torch.cuda.empty_cache()
    write_loras(folder, BASES[name], rank)
    common = ["--model", str(model), "--side", str(side), "--precision", "bf16", "--checkpointing"]
    commands = {
        "train-lora": [
            *("--images", str(folder / "images"), "--prompt", "a zupra dog"),
            *("--kind", "content", "--rank", str(rank)),
        ],
        "train": ["--loras", str(folder), "--validation-pairs", "1"],
    }
    rows = []
    for command, options in commands.items():
        output = str(folder / f"{command}.safetensors")
        whole = [sys.executable, "-m", "lorarar", command, *common, *options, "-o", output]
        short, _ = run_and_watch([*whole, "--steps", "1"])
        with peak_gpu_memory() as gpu:
            seconds, gigabytes = run_and_watch([*whole, "--steps", str(steps), "--force"])
        rows.append(
            {
                "name": f"{command}, {name}",
                "unet_parameters_m": parameters / 1e6,
                "unet_gb": parameters * 2 / 1e9,
                "peak_gb": gigabytes,
                "peak_gpu_gb": gpu.megabytes / 1e3 or None,
                "command_s": seconds,
                "step_s": (seconds - short) / (steps - 1),
            }
        )
    return rows


def write_loras(folder: Path, base: Base, rank: int) -> None:
    """Write four stand-in LoRAs with a manifest and a few images for all of them."""
    scenes = [random_scene(one, np.random.default_rng(0)) for one in list(SUBJECTS.values())[:2]]
    write_examples(folder / "images", [(draw(scene), "a zupra dog") for scene in scenes])
    loras = []
    for kind, names in NAMES.items():
        for seed, name in enumerate(names):
            layers = standin_layers(attention_shapes(base), rank, seed)
            save_lora(Lora(layers), folder / f"{name}.safetensors")
            line = {"file": f"{name}.safetensors", "kind": kind, "images": "images", "prompt": name}
            loras.append(line)
    (folder / "manifest.json").write_text(json.dumps({"format": TRAINING_FORMAT, "loras": loras}))


def main(
    base: BaseName = "koala-700m",
    side: Annotated[int, typer.Option(min=64, help="pixels")] = 256,
    rank: Annotated[int, typer.Option(min=1)] = 64,
    steps: Annotated[int, typer.Option(min=2)] = 3,
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
) -> None:
    """Measure the memory that both training commands take, and the time of their steps."""
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(base, Path(folder), side=side, rank=rank, steps=steps)
    settings = {"side": side, "rank": rank, "steps": steps, "threads": torch.get_num_threads()}
    report = Report(
        benchmark="training_memory",
        machine=describe() | describe_gpu(),
        settings=settings | {"dtype": "bf16"},
        rows=rows,
        notes=[NOTE],
    )
    publish(report, make_console(), json)


if __name__ == "__main__":
    run_script(main)
