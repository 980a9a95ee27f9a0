"""How large is an exported UNet, and what does exporting it take? Full size, seeded weights.

python benchmarks/export_size.py --base sdxl --quantize fp16 --quantize int8 --quantize int4
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from lorarar.bases import BASES
from lorarar.benchmarks.machine import alone, describe, run_and_watch, seconds, spread
from lorarar.benchmarks.report import Report, make_console, publish
from lorarar.command import run_script
from lorarar.export import to_onnx
from lorarar.export.parts import random_inputs, unet_part
from lorarar.export.source import open_model
from lorarar.pipeline_format import read_pipeline
from lorarar.runtime.backends import onnxruntime
from lorarar.runtime.factors import factors_of
from lorarar.standin import standin_lora

NOTES = [
    "peak: most memory the whole export held, mapped files included; error: of one step, relative "
    "to torch in float32 with the same weights, both with the LoRA.",
    "step: batch 1, median of the rounds, without and with a LoRA on every attention projection.",
]


@dataclass(frozen=True)
class Setting:
    base: str
    side: int
    rank: int
    rounds: int
    threads: int


def reference(setting: Setting, inputs: Path) -> None:
    """Draw one step's inputs, and write them with torch's answer."""
    torch.set_num_threads(setting.threads)
    with open_model(None, setting.base) as model:
        part = unet_part(model, batch=1, side=setting.side)
        tensors, _ = random_inputs(part, model)
        lora = standin_lora(setting.base, setting.rank, seed=1)
        pairs = [
            torch.from_numpy(np.asarray(factor, np.float32))
            for name in part.slots
            for factor in (lora.layers[f"unet.{name}"].down, lora.layers[f"unet.{name}"].up)
        ]
        with torch.no_grad():
            answer = part.load()(*tensors.values(), pairs)
    np.savez(inputs, answer=answer.numpy(), **{name: t.numpy() for name, t in tensors.items()})


def step(setting: Setting, folder: Path, inputs: Path) -> dict[str, Any]:
    """Load an exported UNet in ONNX Runtime, and run one step without and with a LoRA."""
    pipeline = read_pipeline(folder)
    stage = pipeline.parts["unet"][0]
    lora = standin_lora(setting.base, setting.rank, seed=1)
    factors = factors_of(lora, pipeline, str(folder))
    stored = dict(np.load(inputs))
    wanted = stored.pop("answer")
    started = time.perf_counter()
    run = onnxruntime.open_stage(folder / stage.file, stage, setting.threads)
    loaded = time.perf_counter() - started
    found = run(stored | factors)["out_sample"]
    times: dict[str, list[float]] = {"plain": [], "lora": []}
    for _ in range(setting.rounds):
        times["plain"].append(seconds(lambda: run(stored)))
        times["lora"].append(seconds(lambda: run(stored | factors)))
    plain, with_lora = (spread(times[name])["median_ms"] / 1e3 for name in ("plain", "lora"))
    return {
        "error": float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted)),
        "load_s": loaded,
        "step_s": plain,
        "step_with_lora_s": with_lora,
        "lora_costs_percent": (with_lora / plain - 1) * 100,
    }


def measure(setting: Setting, quantize: str, folder: Path, inputs: Path) -> dict[str, Any]:
    command = [sys.executable, str(Path(to_onnx.__file__)), "--random-weights", setting.base]
    exported = folder / quantize
    taken, peak = run_and_watch([*command, "--quantize", quantize, "-o", str(exported)])
    size = sum(file.stat().st_size for file in (exported / "unet").iterdir())
    row = {
        "name": f"{setting.base}, {quantize}",
        "unet_gb": size / 1e9,
        "export_s": taken,
        "export_peak_gb": peak,
    }
    stepped, _ = alone(step, setting, exported, inputs)
    return row | stepped


def main(
    base: Annotated[str, typer.Option(help=f"one of {', '.join(BASES)}")] = "koala-700m",
    quantize: Annotated[list[str] | None, typer.Option(help="may be given several times")] = None,
    side: Annotated[int, typer.Option(min=4, help="of the latents")] = 64,
    rank: Annotated[int, typer.Option(min=1)] = 128,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    threads: Annotated[int, typer.Option(min=1)] = torch.get_num_threads(),
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
) -> None:
    """Export, load and run; each in a process of its own. SDXL wants 20 GB of disk and memory."""
    setting = Setting(base, side, rank, rounds, threads)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        inputs = Path(name) / "inputs.npz"
        alone(reference, setting, inputs)
        for each in quantize or ["int8"]:
            with tempfile.TemporaryDirectory(dir=name) as folder:
                rows.append(measure(setting, each, Path(folder), inputs))
    settings = {"latents": side, "rank": rank, "threads": threads, "dtype": "float32"}
    publish(Report("export_size", describe(), settings, rows, NOTES), make_console(), json)


if __name__ == "__main__":
    run_script(main)
