"""Steps, swaps and pictures by the runner on any device: an exported folder at work."""

import shutil
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from lorarar.artefacts.formats import FORMATS
from lorarar.artefacts.pipeline import read_manifest
from lorarar.benchmarks.devices import DEVICES, runner_engine
from lorarar.benchmarks.devices.bundle import add_runner
from lorarar.benchmarks.devices.device import OUTPUT, Choice, Device, Facts, Place
from lorarar.benchmarks.devices.measuring import Pace, Row, measure_on, times_of
from lorarar.files import read_safetensors, write_safetensors
from lorarar.runtime.pipeline import Pipeline

MODEL, GIVEN = "model", "given.safetensors"
PAIR_NAMES = "content.safetensors", "style.safetensors"
SEED = 0


def measure_drawing(
    choice: Choice,
    folder: Path,
    pair: tuple[Path, Path],
    prompt: str,
    *,
    steps: int,
    rounds: int,
    pace: Pace,
) -> tuple[list[Row], Facts]:
    """Draw on a device with an exported folder and a pair; see `draw_steps`, `draw_picture`.

    Raises LorararError if a tool or the device is missing, or if the runner fails.
    """
    device = DEVICES[choice.name]
    with tempfile.TemporaryDirectory() as name:
        bundle = Path(name)
        engine = FORMATS[read_manifest(folder).engine].engine
        add_runner(bundle, device.TARGET, runner_engine(engine))
        wanted = write_inputs(bundle, folder, pair, prompt, steps)
        with device.put(bundle, choice) as place:
            common = ["--threads", str(choice.threads), "--rounds"]
            works = [
                partial(draw_steps, device, place, [*common, str(rounds)]),
                partial(draw_picture, device, place, [*common, "1"], steps, wanted),
            ]
            return measure_on(device, place, choice.name, works, pace)


def write_inputs(
    bundle: Path, folder: Path, pair: tuple[Path, Path], prompt: str, steps: int
) -> np.ndarray:
    """Copy an exported folder and a pair into a bundle, write tokens and noise beside them, and
    return the latents, (1, channels, height, width) float32, that Python draws of all that."""
    shutil.copytree(folder, bundle / MODEL)
    for file, name in zip(pair, PAIR_NAMES, strict=True):
        shutil.copy(file, bundle / name)
    manifest = read_manifest(folder)
    pipeline = Pipeline.load(folder, FORMATS[manifest.engine].engine, check_hashes=False)
    texts = [prompt] if manifest.zeros_for_empty else ["", prompt]
    ids = [np.concatenate([tokenizer(text) for text in texts]) for tokenizer in pipeline.tokenizers]
    noise = np.random.default_rng(SEED).standard_normal(
        (1, manifest.channels, manifest.side, manifest.side), np.float32
    )
    tensors = {"input_ids": ids[0], "input_ids_2": ids[1], "noise": noise}
    write_safetensors(bundle / GIVEN, tensors, {})
    pipeline.set_pair(*pair)
    *_, latents = pipeline.steps(prompt, steps=steps, seed=SEED)
    return latents


def draw_steps(device: Device, place: Place, common: list[str]) -> list[Row]:
    """Rows of one UNet step with guidance, with and without the pair, and what is around it."""
    run = device.run(place, ["step", MODEL, *PAIR_NAMES, "--given", GIVEN, *common])
    return [
        times_of(row, f"runner, {name}", run) | {"error": None} for name, row in run.rows.items()
    ]


def draw_picture(
    device: Device, place: Place, common: list[str], steps: int, wanted: np.ndarray
) -> list[Row]:
    """The row of a whole picture. error: the latents' largest difference from Python's, by the
    largest latent."""
    words = ["picture", MODEL, *PAIR_NAMES, "--given", GIVEN, "-o", "picture.png", "--force"]
    with tempfile.TemporaryDirectory() as folder:
        latents = Path(folder, OUTPUT)
        arguments = [*words, "--latents", OUTPUT, "--steps", str(steps), *common]
        run = device.run(place, arguments, latents)
        found = read_safetensors(latents)[0]["latents"]
        error = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    row = times_of(run.rows["picture"], f"runner, picture of {steps} steps", run)
    return [row | {"error": error}]
