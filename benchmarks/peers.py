"""What people would use instead, beside ours: the same weights, LoRAs and noise, in one run.

python benchmarks/peers.py
python benchmarks/peers.py --base sdxl --peer ours --peer stable-diffusion.cpp

Each peer has an environment of its own, made when it is first asked for, and each row is measured
in a process of its own (`benchmarks/peers/`). Environments, models and exports are kept; of a run
that was stopped, the rows that it has, and the next one goes on.
"""

import json
import shutil
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from diffusers import EulerDiscreteScheduler
from rich.console import Console

from lorarar.benchmarks.machine import describe, run_and_watch
from lorarar.benchmarks.report import Report, make_console, publish
from lorarar.command import run_script
from lorarar.errors import LorararError
from lorarar.files import user_cache, write_folder_atomically
from lorarar.numeric import psnr
from lorarar.parallel import cores

SCRIPTS = Path(__file__).parent / "peers"
TO_ONNX = Path(__file__).parents[1] / "export" / "to_onnx.py"
PROMPT, GUIDANCE, SEED, RANK = "a red cup", 5.0, 0, 64
PeerName = Literal["ours", "openvino", "diffusers", "stable-diffusion.cpp"]
BaseName = Literal["koala-700m", "sdxl"]
Noise = Literal["numpy", "torch"]  # whose generator
FIGURES = "load_ms", "step_plain_ms", "step_pair_ms", "swap_ms"
NOTES = [
    "step: median, with guidance, without and with a pair of LoRAs of rank 64. swap: median, to "
    "put in another pair of files, until drawing can begin; where a peer does so within drawing, "
    "what its first step takes longer than with the pair before. ours, lorarar: the hypernetwork's "
    "merge included, prepared: of prepared files that are open; direct: both at weight 1, as the "
    "peers do.",
    "plain dB, pair dB: PSNR of the picture beside diffusers in float32 with the same weights and "
    "noise, with a pair where both its LoRAs have weight 1. peak: the process's most memory, "
    "mapped files included.",
]


@dataclass(frozen=True)
class Way:
    """One row: a peer, its settings, and the weights that its exporter stores, if it has one."""

    peer: PeerName
    kind: str
    weights: str | None = None

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (self.peer, self.weights, self.kind)))

    @property
    def script(self) -> Path:
        return SCRIPTS / f"with_{self.peer.replace('-', '_').replace('.', '_')}.py"

    @property
    def noise(self) -> Noise:
        """stable-diffusion.cpp can draw torch's only; all others take any, and ours is numpy's."""
        return "torch" if self.peer == "stable-diffusion.cpp" else "numpy"


REFERENCE = Way("diffusers", "peft")
WAYS: dict[BaseName, list[Way]] = {
    "koala-700m": [
        REFERENCE,
        Way("diffusers", "fused"),
        Way("diffusers", "hotswap, compiled"),
        Way("diffusers", "int8, hotswap, compiled"),
        Way("openvino", "float32", "fp32"),
        Way("openvino", "bfloat16", "fp32"),
        Way("openvino", "float32", "int8"),
        Way("ours", "direct", "none"),
        Way("ours", "direct, openvino", "none"),
        Way("ours", "direct", "int8"),
        Way("ours", "direct, openvino", "int8"),
        Way("ours", "lorarar", "int8"),
        Way("ours", "lorarar, prepared", "int8"),
        Way("ours", "lorarar, prepared, openvino", "int8"),
    ],
    "sdxl": [
        REFERENCE,
        Way("stable-diffusion.cpp", "q8_0, at_runtime"),
        Way("stable-diffusion.cpp", "q8_0, immediately"),
        Way("stable-diffusion.cpp", "q4_0, at_runtime"),
        Way("stable-diffusion.cpp", "q4_0, immediately"),
        Way("ours", "direct", "int8"),
        Way("ours", "lorarar", "int8"),
        Way("ours", "lorarar, prepared", "int8"),
        Way("ours", "direct", "int4"),
    ],
}


@dataclass(frozen=True)
class Studio:
    """Where everything is kept, and what is drawn."""

    folder: Path
    base: BaseName
    side: int
    steps: int
    threads: int
    limit: int = 1200  # seconds for a row

    @property
    def unfinished(self) -> Path:
        """Where a run keeps its rows until it is through, so that it goes on if it is stopped."""
        run = f"{self.base}, {self.side} px, {self.steps} steps, {self.threads} threads"
        return self.folder / "unfinished" / run

    @property
    def model(self) -> Path:
        return self.folder / "models" / self.base

    @property
    def lora_folder(self) -> Path:
        return self.folder / "loras" / self.base

    def loras(self, way: Way) -> list[list[str]]:
        """Two pairs, in the names that the peer reads."""
        layout = "kohya" if way.peer == "openvino" else "diffusers"
        layout = "prepared" if "prepared" in way.kind else layout
        return [
            [str(self.lora_folder / f"{layout}-{n}.safetensors") for n in two]
            for two in ((1, 2), (3, 4))
        ]


def prepare(studio: Studio) -> None:
    """Write the seeded model, four LoRAs and an untrained hypernetwork, if they are not there."""
    make_seeded("model", studio.base, studio.model)
    make_seeded("loras", studio.base, studio.lora_folder)


def ways_of(base: BaseName, peers: list[str]) -> list[Way]:
    """The rows of some peers on a base.

    Raises LorararError for a peer that is unknown, or that does not know the base.
    """
    ways = [way for way in WAYS[base] if way.peer in peers]
    for peer in set(peers) - {way.peer for way in ways}:
        known = {way.peer for way in WAYS[base]}
        raise LorararError(f"--peer {peer}: none that draws {base}; use {', '.join(sorted(known))}")
    return ways


def make_seeded(what: str, base: BaseName, path: Path) -> None:
    if path.exists():
        return
    command = [sys.executable, str(SCRIPTS / "make_seeded.py"), what, base]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_folder_atomically(path, lambda part: run_and_watch([*command, str(part)]), False)


def python_of(way: Way, studio: Studio) -> Path:
    """Make the peer's environment if it is not there as it should be; return its interpreter."""
    wanted = way.script.with_suffix(".txt")
    if not wanted.exists():
        return Path(sys.executable)
    home = studio.folder / "environments" / way.peer
    python, ready = home / "bin" / "python", home / "ready"
    if not ready.exists() or ready.read_text() != wanted.read_text():
        venv.create(home, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip"]
        run_and_watch([*pip, "install", "-q", "-r", str(wanted)])
        # What optimum-intel brings along does not import beside this torch; nothing here needs it.
        run_and_watch([*pip, "uninstall", "-q", "-y", "torchvision"])
        ready.write_text(wanted.read_text())
    return python


def exported(way: Way, studio: Studio) -> Path:
    """What the peer opens: the model itself, or what its exporter makes of it, which is kept."""
    if way.weights is None:
        return studio.model
    path = studio.folder / "models" / f"{studio.base}-{way.peer}-{way.weights}"
    if path.exists():
        return path
    part = path.with_name(f".{path.name}")
    shutil.rmtree(part, ignore_errors=True)
    python = python_of(way, studio)
    if way.peer == "ours":
        hypernet = studio.lora_folder / "hypernet.safetensors"
        command = [str(python), str(TO_ONNX), "--model", str(studio.model), "-o", str(part)]
        command += ["--quantize", way.weights, "--hypernet", str(hypernet)]
    else:
        command = [str(python.with_name("optimum-cli")), "export", "openvino", "-m"]
        command += [str(studio.model), "--task", "text-to-image"]
        command += ["--weight-format", way.weights, str(part)]
    run_and_watch(command)
    part.rename(path)
    return path


def task_of(way: Way, noise: Noise, studio: Studio, result: Path) -> dict[str, Any]:
    """The fields of `peers/measuring.py`'s Task."""
    path = result.with_suffix(".noise.npy")
    np.save(path, noise_of(noise, studio.side // 8))
    scheduler: Any = EulerDiscreteScheduler.from_pretrained(studio.model / "scheduler")
    scheduler.set_timesteps(studio.steps)
    return {
        "model": str(exported(way, studio)),
        "kind": way.kind,
        "pairs": studio.loras(way),
        "prompt": PROMPT,
        "side": studio.side,
        "steps": studio.steps,
        "guidance": GUIDANCE,
        "seed": SEED,
        "noise": str(path),
        "sigmas": scheduler.sigmas.tolist(),
        "threads": studio.threads,
        "result": str(result),
    }


def noise_of(kind: Noise, side: int) -> np.ndarray:
    """(1, 4, side, side) float32, as numpy or as torch draws it."""
    shape = 1, 4, side, side
    if kind == "torch":
        return torch.randn(shape, generator=torch.Generator().manual_seed(SEED)).numpy()
    return np.random.default_rng(SEED).standard_normal(shape, np.float32)


@dataclass(frozen=True)
class Measured:
    """What a peer's process gave back; pictures (side, side, 3) uint8."""

    figures: dict[str, float]
    versions: dict[str, str]
    plain: np.ndarray
    pair: np.ndarray
    peak_gb: float


def measure(way: Way, noise: Noise, studio: Studio, folder: Path) -> Measured:
    """Run one peer in a process of its own, unless `folder` has what it gave back before.

    Raises LorararError if it cannot be installed, fails or takes too long.
    """
    result, task, peak = (folder / f"{name}.json" for name in ("result", "task", "peak_gb"))
    folder.mkdir(parents=True, exist_ok=True)
    if not peak.exists():
        task.write_text(json.dumps(task_of(way, noise, studio, result)))
        command = [str(python_of(way, studio)), str(way.script), str(task)]
        _, most = run_and_watch(command, studio.limit)
        peak.write_text(json.dumps(most))
    said = json.loads(result.read_text())
    plain, pair = (np.load(result.with_suffix(f".{name}.npy")) for name in ("plain", "pair"))
    return Measured(said["figures"], said["versions"], plain, pair, json.loads(peak.read_text()))


def row_of(way: Way, measured: Measured, wanted: Measured) -> dict[str, Any]:
    """One line of the table, its pictures beside those of diffusers in float32."""
    return {
        "name": way.name,
        **{name: measured.figures[name] for name in FIGURES},
        "peak_gb": measured.peak_gb,
        "plain_db": decibels(measured.plain, wanted.plain),
        "pair_db": None if way.kind.startswith("lorarar") else decibels(measured.pair, wanted.pair),
    }


def decibels(found: np.ndarray, wanted: np.ndarray) -> float | None:
    """PSNR of 8-bit pictures; None where they are equal."""
    ratio = psnr(found / np.float32(255), wanted / np.float32(255))
    return ratio if np.isfinite(ratio) else None


def measure_all(
    ways: list[Way], studio: Studio, console: Console, left_out: list[str]
) -> Iterator[tuple[Way, Measured, Measured]]:
    """Each way, and what its pictures should be; a way that fails is said and left out."""
    for way in ways:
        console.print(way.name, highlight=False)
        folder = studio.unfinished / way.noise
        try:
            wanted = measure(REFERENCE, way.noise, studio, folder / REFERENCE.name)
            found = measure(way, way.noise, studio, folder / way.name)
        except LorararError as error:
            left_out.append(f"{way.name}: left out ({error})")
            console.print(left_out[-1], highlight=False)
            continue
        yield way, found, wanted


def main(
    peer: Annotated[
        list[str] | None, typer.Option(help="may be given several times; all by default")
    ] = None,
    base: Annotated[BaseName, typer.Option(help="stable-diffusion.cpp knows SDXL only")] = (
        "koala-700m"
    ),
    side: Annotated[int, typer.Option(min=64, help="of the picture, in pixels")] = 256,
    steps: Annotated[int, typer.Option(min=3)] = 4,
    threads: Annotated[int, typer.Option(min=1)] = cores(),
    folder: Annotated[Path | None, typer.Option(help="what is made is kept here")] = None,
    limit: Annotated[int, typer.Option(min=1, help="seconds that a row may take")] = 1200,
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
) -> None:
    """Measure each peer's step, swap, memory and picture beside ours."""
    studio = Studio(folder or user_cache("peers"), base, side, steps, threads, limit)
    ways = ways_of(base, peer) if peer else WAYS[base]
    prepare(studio)
    left_out: list[str] = []
    measured = list(measure_all(ways, studio, Console(stderr=True), left_out))
    if not measured:
        raise LorararError(f"no peer could be measured on {base}; see the lines above")
    versions: dict[str, str] = {}
    for _, found, _ in measured:
        versions |= found.versions
    _, _, wanted = measured[0]
    settings = {
        "base": base,
        "weights": "seeded",
        "side": side,
        "steps": steps,
        "guidance": GUIDANCE,
        "rank": RANK,
        "threads": threads,
        "db_between_with_and_without_pair": decibels(wanted.pair, wanted.plain),
    }
    report = Report(
        benchmark="peers",
        machine=describe() | versions,
        settings=settings,
        rows=[row_of(*each) for each in measured],
        notes=NOTES + left_out,
    )
    publish(report, make_console(), json)
    shutil.rmtree(studio.unfinished)


if __name__ == "__main__":
    run_script(main)
