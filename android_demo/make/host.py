"""Run the app's engine on this machine's JVM, with an APK's native libraries over our shim."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import lorarar.numeric
from lorarar.artefacts.pipeline import read_manifest
from lorarar.errors import LorararError
from lorarar.runtime.native.tools import require
from lorarar.runtime.pipeline import Pipeline

from . import shim
from .apk import ANDROID_DEMO, MAIN, NPM_SOURCES
from .downloads import LIBRARIES
from .tools import compile_java

CORE = MAIN / "java" / "org" / "lorarar"
SOURCES = (NPM_SOURCES, ANDROID_DEMO / "host" / "src", CORE / "core", CORE / "engine")
GUIDANCE = 5.0  # Python's default


@dataclass(frozen=True)
class Host:
    """What a driver runs with.

    java: the command that starts it; libraries: the folder of Android's; environment: what the
    command needs besides.
    """

    java: tuple[str, ...]
    libraries: Path
    class_path: str
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, main: str, *arguments: str | Path, package: str = "org.lorarar.host") -> str:
        """Run a class's main method and return what it printed.

        Raises LorararError with what it said if it fails.
        """
        command = [*self.java, f"-Djava.library.path={self.libraries}", "-cp", self.class_path]
        done = subprocess.run(
            [*command, f"{package}.{main}", *map(str, arguments)],
            env=os.environ | {"LC_ALL": "C.UTF-8"} | self.environment,  # prompts are UTF-8
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode:
            said = done.stderr.strip()[-1000:]
            raise LorararError(f"{main} failed with status {done.returncode}: {said}")
        return done.stdout


@dataclass(frozen=True)
class Asked:
    """A picture to draw with a merged pair; model: an exported folder."""

    model: Path
    content: Path
    style: Path
    prompt: str
    seed: int
    steps: int


@dataclass(frozen=True)
class Drawn:
    """A picture. pixels: (height, width, 3) uint8; latents: (channels, height, width) float32.

    timings: merge_ms, a number, and step_ms, one for each step; empty where nothing was timed.
    """

    pixels: np.ndarray
    latents: np.ndarray
    timings: dict[str, Any]


def prepare(libraries: Path, jar: Path, cache: Path) -> Host:
    """Build shim and classes into `cache`.

    libraries: a folder with LIBRARIES of x86-64; jar: ExecuTorch's Java classes.

    Raises LorararError if a compiler is missing or fails.
    """
    require("java")
    stands_in = build_shim(libraries, cache, "x86_64")
    paths = {"LD_LIBRARY_PATH": f"{stands_in}:{libraries}"}
    return Host(("java",), libraries, build_classes(jar, cache), paths)


def build_shim(libraries: Path, cache: Path, machine: str) -> Path:
    """Return the folder of what stands in for Android's C libraries; machine: as of `shim`."""
    folder = cache / f"shim-{machine}"
    shim.build([libraries / name for name in LIBRARIES], folder, machine)
    return folder


def build_classes(jar: Path, cache: Path) -> str:
    """Compile core, engine and drivers, and return their class path."""
    classes = cache / "classes"
    compile_java((path for place in SOURCES for path in place.rglob("*.java")), classes, jar)
    return f"{classes}:{jar}"


def draw(host: Host, asked: Asked, names: Path, output: Path) -> Drawn:
    """Merge two LoRAs and draw with both by the app's own Java.

    names: the asset of `names.write`; output: a folder for raw files.

    Raises LorararError if drawing fails.
    """
    output.mkdir(parents=True, exist_ok=True)
    files = (asked.model, asked.content, asked.style, names, output)
    host.run("DrawPicture", *files, asked.prompt, *map(str, (asked.seed, asked.steps, GUIDANCE)))
    about = json.loads((output / "drawn.json").read_bytes())
    manifest = read_manifest(asked.model)
    pixels = np.fromfile(output / "pixels.raw", np.uint8)
    latents = np.fromfile(output / "latents.raw", "<f4")
    return Drawn(
        pixels.reshape(about.pop("height"), about.pop("width"), 3),
        latents.reshape(manifest.channels, manifest.side, manifest.side),
        about,
    )


def reference(asked: Asked) -> Drawn:
    """Draw the same with the Python runtime.

    Raises LorararError as of `Pipeline`.
    """
    pipeline = Pipeline.load(asked.model, "executorch", threads=1)
    pipeline.set_pair(asked.content, asked.style)
    *_, latents = pipeline.steps(
        asked.prompt, steps=asked.steps, seed=asked.seed, guidance=GUIDANCE
    )
    return Drawn(np.asarray(pipeline.decode(latents)), latents[0], {})


def psnr(found: Drawn, wanted: Drawn) -> float:
    """In dB, of the pixels in [0, 1]; infinite where equal."""
    return psnr_of_all([found], [wanted])


def psnr_of_all(found: Sequence[Drawn], wanted: Sequence[Drawn]) -> float:
    """As `psnr`, of several pictures' pixels together.

    In int8 a single picture says little: activations are rounded at run time, so that the last
    digit of any input moves some by a whole level.
    """
    pixels = [np.stack([each.pixels for each in drawn]) / 255 for drawn in (found, wanted)]
    return lorarar.numeric.psnr(*pixels)
