"""Loading, steps, and swapping LoRAs: what was exported beside torch and optimum.

python benchmarks/pipeline_latency.py
python benchmarks/pipeline_latency.py --device emulated-aarch64 --backend executorch
python benchmarks/pipeline_latency.py --device adb --backend executorch
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from lorarar.artefacts.formats import FORMATS, Engine, FormatName
from lorarar.artefacts.pipeline import read_manifest
from lorarar.benchmarks.devices import RUNNERS, choose, runner_engine
from lorarar.benchmarks.devices.device import Choice
from lorarar.benchmarks.devices.drawing import measure_drawing
from lorarar.benchmarks.devices.measuring import PLACE_NOTES, Pace
from lorarar.benchmarks.devices.options import CoolDown, Cores, DeviceText, Sustained
from lorarar.benchmarks.machine import alone, describe, run_and_watch
from lorarar.benchmarks.report import Report, make_console, publish
from lorarar.command import run_script
from lorarar.embedded import HYPERNET, LORAS, NAME
from lorarar.errors import LorararError
from lorarar.hypernet import load_hypernet
from lorarar.lora import load_lora
from lorarar.methods import merge
from lorarar.parallel import cores as all_cores
from lorarar.runtime.native.build import Engine as RunnerEngine
from lorarar.save import save_lora

PAIR = LORAS / "votol.safetensors", LORAS / "neon.safetensors"
PROMPT = "a votol cup on grass in neon style"
EXPORTS: dict[FormatName, tuple[str, ...]] = {
    "onnx": ("none", "int8", "int4"),
    "executorch": ("none", "int8"),
}
SWAPS = 9
STEPS = "first_step_ms", "step_ms", "step_with_lora_ms"
COLUMNS = "name", "load_ms", *STEPS, "swap_ms", "pair_ms", "picture_ms", "peak_mb"
NOTES = [
    "load: from imported packages to a usable pipeline; first step: from the prompt to the first "
    "step's end; step: median, with guidance; peak: the process's most memory.",
    "swap: a merged LoRA's file, in turn with another; in torch load_lora_weights and fuse_lora. "
    "pair: two LoRA files merged by the hypernetwork and swapped in. Each file is in the page "
    "cache, none is kept from an earlier swap.",
    "openvino: if it is installed; it is handed a swap's factors in the next step.",
    "runner: the C++ program of runtime/native; step with a pair, and picture: all steps with it.",
]
RUNNER_NOTE = (
    "runner: the C++ program of runtime/native. step: with guidance; swap: two LoRA files merged "
    "and put into the UNet; picture: with the pair, its error the latents' largest difference from "
    "Python's on this machine, by the largest."
)


@dataclass(frozen=True)
class Setting:
    """files: two merged LoRAs, to be swapped in turn."""

    steps: int
    threads: int
    files: tuple[Path, Path]


class Clock:
    """Notes when each step of a drawing ends."""

    def __init__(self) -> None:
        self.marks = [time.perf_counter()]

    def __call__(self, *_: Any) -> None:
        self.marks.append(time.perf_counter())

    def first(self) -> float:
        return (self.marks[1] - self.marks[0]) * 1e3

    def step(self) -> float:
        return float(median(np.diff(self.marks[1:]))) * 1e3


def exported(setting: Setting, folder: Path, backend: Engine) -> dict[str, Any]:
    """`lorarar.runtime` on an exported folder."""
    from lorarar.runtime.pipeline import Pipeline

    started = time.perf_counter()
    pipeline = Pipeline.load(folder, backend, setting.threads, check_hashes=False)
    row = {"load_ms": _since(started)}
    for name, lora in (("step_ms", None), ("step_with_lora_ms", setting.files[0])):
        pipeline.load_lora(lora)
        pipeline.generate(PROMPT, steps=2)
        clock = Clock()
        for _ in pipeline.steps(PROMPT, steps=setting.steps):
            clock()
        row |= {"first_step_ms": clock.first(), name: clock.step()}

    def swap(number: int) -> None:
        pipeline.forget()
        pipeline.load_lora(setting.files[number % 2])

    def pair(number: int) -> None:
        pipeline.forget()
        pipeline.set_pair(*PAIR)

    return row | {"swap_ms": _median(swap), "pair_ms": _median(pair)}


def torch_and_peft(setting: Setting) -> dict[str, Any]:
    """diffusers' own pipeline in float32, LoRAs fused by peft."""
    import torch

    from lorarar.diffusion.pipeline import load_pipeline

    torch.set_num_threads(setting.threads)
    started = time.perf_counter()
    pipeline: Any = load_pipeline()
    row = {"load_ms": _since(started)}

    def swap(number: int) -> None:
        pipeline.unfuse_lora()
        pipeline.unload_lora_weights()
        pipeline.load_lora_weights(str(setting.files[number % 2]), adapter_name="merged")
        pipeline.set_adapters(["merged"])
        pipeline.fuse_lora()

    pipeline.load_lora_weights(str(setting.files[0]))
    pipeline.fuse_lora()
    first, step = _diffusers_steps(pipeline, setting.steps)
    row |= {"first_step_ms": first, "step_ms": step, "step_with_lora_ms": step}
    return row | {"swap_ms": _median(swap)}


def optimum(setting: Setting, folder: Path) -> dict[str, Any]:
    """optimum's pipeline on an exported ONNX folder; it swaps no LoRAs."""
    import onnxruntime
    from optimum.onnxruntime import ORTStableDiffusionXLPipeline

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setting.threads
    started = time.perf_counter()
    pipeline = ORTStableDiffusionXLPipeline.from_pretrained(folder, session_options=options)
    row = {"load_ms": _since(started)}
    first, step = _diffusers_steps(pipeline, setting.steps)
    return row | {"first_step_ms": first, "step_ms": step}


def _diffusers_steps(pipeline: Any, steps: int) -> tuple[float, float]:
    pipeline.set_progress_bar_config(disable=True)
    pipeline(PROMPT, num_inference_steps=2, guidance_scale=5.0)
    clock = Clock()

    def mark(pipeline: Any, step: int, time: Any, kept: dict) -> dict:
        clock()
        return kept

    pipeline(PROMPT, num_inference_steps=steps, guidance_scale=5.0, callback_on_step_end=mark)
    return clock.first(), clock.step()


def _median(work: Callable[[int], None]) -> float:
    times = []
    for number in range(1, SWAPS + 1):
        started = time.perf_counter()
        work(number)
        times.append(_since(started))
    return median(times)


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1e3


def row_of(name: str, work: Callable[..., dict], *arguments: Any) -> dict[str, Any]:
    row, peak = alone(work, *arguments)
    return dict.fromkeys(COLUMNS) | {"name": name, "peak_mb": peak} | row


def runner_row(name: str, folder: Path, setting: Setting) -> dict[str, Any]:
    """The runner on an exported folder, on this machine.

    Raises LorararError if there is no compiler, or none of its engine's libraries.
    """
    found, _ = measure_drawing(
        Choice("host", threads=setting.threads),
        folder,
        PAIR,
        PROMPT,
        steps=setting.steps,
        rounds=setting.steps,
        pace=Pace(cool_down=0, sustained=0),
    )
    rows = {row["name"]: row for row in found}
    picture = rows.pop(f"runner, picture of {setting.steps} steps")
    return dict.fromkeys(COLUMNS) | {
        "name": f"runner, {name}",
        "load_ms": picture["load_ms"],
        "step_ms": rows["runner, step"]["median_ms"],
        "step_with_lora_ms": rows["runner, step with pair"]["median_ms"],
        "pair_ms": rows["runner, swap"]["median_ms"],
        "picture_ms": picture["median_ms"],
        "peak_mb": picture["peak_megabytes"],
    }


def export_all(parent: Path, backends: Sequence[RunnerEngine]) -> dict[str, Path]:
    """Export the embedded model in every form of these engines that is compared."""
    folders = {}
    wanted = [
        (form, widths) for form, widths in EXPORTS.items() if FORMATS[form].engine in backends
    ]
    for form, quantize in ((form, each) for form, widths in wanted for each in widths):
        folder = parent / f"{form}-{quantize}"
        script = Path(__file__).parents[1] / "export" / f"to_{form}.py"
        arguments = ["--model", NAME, "--quantize", quantize, "-o", str(folder)]
        if not folder.exists():
            run_and_watch([sys.executable, str(script), *arguments])
        folders[f"{FORMATS[form].engine}, {quantize}"] = folder
    return folders


def merged_files(folder: Path) -> tuple[Path, Path]:
    content, style = map(load_lora, PAIR)
    files = folder / "one.safetensors", folder / "other.safetensors"
    save_lora(merge(content, style, hypernet=load_hypernet(HYPERNET)), files[0])
    save_lora(merge(content, style, "direct"), files[1])
    return files


def measure_here(
    setting: Setting, folders: dict[str, Path]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of every engine, each in a process of its own, and notes of what is left out."""
    rows, notes = [row_of("torch, diffusers and peft", torch_and_peft, setting)], []
    for folder in folders.values():
        manifest = read_manifest(folder)
        for backend in filter(find_spec, FORMATS[manifest.engine].engines):
            name = f"{backend}, {manifest.quantize}"
            rows.append(row_of(name, exported, setting, folder, backend))
    for quantize in ("none", "int8"):
        path = folders.get(f"onnxruntime, {quantize}")
        if path:
            rows.append(row_of(f"optimum, {quantize}", optimum, setting, path))
    for name, path in folders.items():
        try:
            rows.append(runner_row(name, path, setting))
        except LorararError as error:
            notes.append(f"the runner on {name}: left out ({error})")
    return rows, notes


def main(
    backend: Annotated[
        list[str],  # typer knows no list of a Literal
        typer.Option(
            default_factory=lambda: list(RUNNERS),
            help=f"{' or '.join(RUNNERS)}; may be given several times, default: both",
        ),
    ],
    device: DeviceText = "host",
    steps: Annotated[
        int | None, typer.Option(min=3, help="of a picture; default: 20, where emulated 3")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="default: all cores, on other devices 1")
    ] = None,
    exports: Annotated[
        Path | None, typer.Option(help="folder of exports that is kept and used again")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
    cores: Cores = None,
    cool_down: CoolDown = 20.0,
    sustained: Sustained = 60.0,
) -> None:
    """Measure the embedded model in every engine, each in a process of its own, in one run; on
    other devices by the runner."""
    engines = [runner_engine(name) for name in backend]
    choice = choose(device, cores, threads or (all_cores() if device == "host" else 1))
    is_emulated = choice.name == "emulated-aarch64"
    steps = steps or (3 if is_emulated else 20)
    report = Report(
        benchmark="pipeline_latency",
        machine=describe(),
        settings={
            "steps": steps,
            "threads": choice.threads,
            "model": "embedded",
            "dtype": "float32",
        },
    )
    with tempfile.TemporaryDirectory() as name:
        parent = exports or Path(name)
        parent.mkdir(exist_ok=True)
        folders = export_all(parent, engines)
        if choice.name == "host":
            setting = Setting(steps, choice.threads, merged_files(Path(name)))
            report.rows, left_out = measure_here(setting, folders)
            report.notes = NOTES + left_out
        else:
            report.notes = [RUNNER_NOTE, PLACE_NOTES[choice.name]]
            pace = Pace(cool_down, sustained)
            for label, folder in folders.items():
                rows, report.device = measure_drawing(
                    choice,
                    folder,
                    PAIR,
                    PROMPT,
                    steps=steps,
                    rounds=1 if is_emulated else steps,
                    pace=pace,
                )
                report.rows += [row | {"name": f"{row['name']}, {label}"} for row in rows]
    publish(report, make_console(), json)


if __name__ == "__main__":
    run_script(main)
