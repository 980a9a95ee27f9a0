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

from lorarar.benchmarks.machine import alone, describe, run_and_watch, seconds, spread
from lorarar.benchmarks.report import Report, make_console, publish
from lorarar.command import run_script
from lorarar.export import to_onnx
from lorarar.export.parts import random_inputs, unet_part
from lorarar.export.source import open_model
from lorarar.hypernet import ROLES, load_hypernet
from lorarar.lora import load_lora
from lorarar.prepare import prepare
from lorarar.runtime.pipeline import Pipeline
from lorarar.runtime.slots import slot_factors
from lorarar.save import save_lora
from lorarar.standin import BaseName, standin_lora, write_standins

NOTES = [
    "peak: most memory the whole export held, mapped files included; error: of one step, relative "
    "to torch in float32 with the same weights, both with the LoRA.",
    "step: batch 1, median of the rounds, without and with a merged LoRA on every attention "
    "projection, and with a content and a style LoRA of half its rank in their slots.",
    "swap: two prepared LoRAs merged into these slots, first from files never opened before, then "
    "from open ones (median); the pages of both are in memory.",
]
SWAPS = 9


@dataclass(frozen=True)
class Setting:
    """What is measured. base: see `lorarar.bases`; side: of the latents; rank: of the LoRA."""

    base: BaseName
    side: int
    rank: int
    rounds: int
    threads: int


@dataclass(frozen=True)
class Given:
    """Files that every row uses. content, style: prepared LoRAs."""

    inputs: Path
    hypernet: Path
    content: Path
    style: Path


def reference(setting: Setting, inputs: Path) -> None:
    """Draw one step's inputs, and write them with torch's model output."""
    torch.set_num_threads(setting.threads)
    with open_model(None, setting.base) as model:
        part = unet_part(model, batch=1, side=setting.side)
        tensors, _ = random_inputs(part, model)
        lora = standin_lora(setting.base, setting.rank, seed=1)
        pairs = [
            torch.from_numpy(np.asarray(factor, np.float32))
            for name in part.projections
            for factor in (lora.layers[f"unet.{name}"].down, lora.layers[f"unet.{name}"].up)
        ]
        with torch.no_grad():
            output = part.load()(*tensors.values(), pairs)
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
    np.savez(inputs, output=output.numpy(), **arrays)


def prepare_pair(setting: Setting, folder: Path) -> Given:
    """Write two LoRAs of half the rank, prepared, and their hypernetwork."""
    plain, path_of_hypernet = write_standins(folder, setting.base, setting.rank // 2)
    hypernet = load_hypernet(path_of_hypernet)
    for role, path in zip(ROLES, plain, strict=True):
        prepared = prepare(load_lora(path), hypernet, role)
        save_lora(prepared, folder / f"prepared-{role}.safetensors")
    return Given(
        inputs=folder / "inputs.npz",
        hypernet=path_of_hypernet,
        content=folder / "prepared-content.safetensors",
        style=folder / "prepared-style.safetensors",
    )


def step(setting: Setting, folder: Path, given: Given) -> dict[str, Any]:
    """Load an exported folder in ONNX Runtime, swap LoRAs, and run one step without and with."""
    lora = standin_lora(setting.base, setting.rank, seed=1)
    stored = dict(np.load(given.inputs))
    wanted = stored.pop("output")
    started = time.perf_counter()
    pipeline = Pipeline.load(folder, threads=setting.threads, check_hashes=False)
    loaded = time.perf_counter() - started
    ((_, run),) = pipeline.parts["unet"]
    merged = slot_factors(lora, pipeline.manifest, str(folder))
    found = run(stored | merged)["out_sample"]
    pipeline.set_pair(given.content, given.style)  # its pages are read from the disk
    pipeline.forget()
    swaps = [swap(pipeline, given) for _ in range(SWAPS)]
    times: dict[str, list[float]] = {"plain": [], "lora": [], "pair": []}
    for _ in range(setting.rounds):
        times["plain"].append(seconds(lambda: run(stored)))
        times["lora"].append(seconds(lambda: run(stored | merged)))
        times["pair"].append(seconds(lambda: run(stored | pipeline.factors)))
    plain, with_lora, with_pair = (spread(each)["median_ms"] / 1e3 for each in times.values())
    return {
        "error": float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted)),
        "load_s": loaded,
        "step_s": plain,
        "step_with_lora_s": with_lora,
        "lora_costs_percent": (with_lora / plain - 1) * 100,
        "pair_costs_percent": (with_pair / plain - 1) * 100,
        "first_swap_ms": swaps[0] * 1e3,
        "swap_ms": spread(swaps[1:])["median_ms"],
    }


def swap(pipeline: Pipeline, given: Given) -> float:
    """Return the seconds of a swap to the pair, from files that are open."""
    pipeline.cache.made.clear()  # else going back to a pair would take no time
    return seconds(lambda: pipeline.set_pair(given.content, given.style))


def measure(setting: Setting, quantize: str, folder: Path, given: Given) -> dict[str, Any]:
    """Export into a folder by the script, and run what it wrote; returns a row of figures."""
    command = [sys.executable, str(Path(to_onnx.__file__)), "--random-weights", setting.base]
    command += ["--hypernet", str(given.hypernet), "--quantize", quantize]
    exported = folder / quantize
    taken, peak = run_and_watch([*command, "-o", str(exported)])
    size = sum(file.stat().st_size for file in (exported / "unet").iterdir())
    row = {
        "name": f"{setting.base}, {quantize}",
        "unet_gb": size / 1e9,
        "export_s": taken,
        "export_peak_gb": peak,
    }
    stepped, _ = alone(step, setting, exported, given)
    return row | stepped


def main(
    base: BaseName = "koala-700m",
    quantize: Annotated[list[str] | None, typer.Option(help="may be given several times")] = None,
    side: Annotated[int, typer.Option(min=4, help="of the latents")] = 64,
    rank: Annotated[int, typer.Option(min=2)] = 128,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    threads: Annotated[int, typer.Option(min=1)] = torch.get_num_threads(),
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
) -> None:
    """Export, load and run; each in a process of its own. SDXL wants 20 GB of disk and memory."""
    setting = Setting(base=base, side=side, rank=rank, rounds=rounds, threads=threads)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        given = prepare_pair(setting, Path(name))
        alone(reference, setting, given.inputs)
        for each in quantize or ["int8"]:
            with tempfile.TemporaryDirectory(dir=name) as folder:
                rows.append(measure(setting, each, Path(folder), given))
    settings = {"latents": side, "rank": rank, "threads": threads, "dtype": "float32"}
    report = Report(
        benchmark="export_size", machine=describe(), settings=settings, rows=rows, notes=NOTES
    )
    publish(report, make_console(), json)


if __name__ == "__main__":
    run_script(main)
