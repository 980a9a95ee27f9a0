"""`lorarar demo`: held-out pairs of the small world, merged and drawn; then one by each engine."""

import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from lorarar.artefacts.training import load_manifest
from lorarar.diffusion.generate import merged_into
from lorarar.diffusion.pipeline import draw, load_pipeline, put_lora, runtime_noise
from lorarar.embedded import HYPERNET, LORAS, find_lora
from lorarar.hypernet import ROLES, Role, load_hypernet
from lorarar.lora import load_lora
from lorarar.mini.demo_exports import Export
from lorarar.mini.world import SUBJECTS, describe
from lorarar.numeric import psnr
from lorarar.parallel import cores
from lorarar.plot import plot_pictures
from lorarar.runtime.backends import load_backend
from lorarar.runtime.pipeline import Pipeline

SHOWN = ("direct", "lorarar")
PLACE, SEED = "on grass", 0


def run_demo(output: Path, force: bool, console: Console) -> None:
    """Draw each held-out content LoRA with a held-out style LoRA, neither of them known to the
    hypernetwork, into one labelled picture, and print how long the merges take.

    Raises LorararError if `output` exists and is not to be replaced, or cannot be written.
    """
    manifest = load_manifest(LORAS)
    hypernet = load_hypernet(HYPERNET)
    pipeline = load_pipeline()
    torch.set_num_threads(max(1, cores() - 1))  # the other exports meanwhile
    held_out = (manifest.of(role, held_out=True) for role in ROLES)
    table = Table("content", "style", *(f"{method}, ms" for method in SHOWN), "four pictures, s")
    rows = {}
    for pick in track([*zip(*held_out, strict=True)], "drawing", console=console, transient=True):
        names = [entry.name for entry in pick]
        pair = [load_lora(entry.file) for entry in pick]
        milliseconds, pictures, started = [], [], time.perf_counter()
        for lora, prompt in zip(pair, _prompts_alone(*names), strict=True):
            put_lora(pipeline, lora)
            pictures.append(draw(pipeline, [prompt], [SEED]))
        prompt = describe(f"{names[0]} {SUBJECTS[names[0]].kind}", PLACE, names[1])
        for method in SHOWN:
            with merged_into(pipeline, pair[0], pair[1], method, hypernet=hypernet) as ready:
                pictures.append(draw(pipeline, [prompt], [SEED], **ready.arguments))
            milliseconds.append(ready.merge_seconds * 1e3)
        seconds = time.perf_counter() - started
        table.add_row(*names, *(f"{each:.1f}" for each in milliseconds), f"{seconds:.1f}")
        rows["\n".join(names)] = [each[0].permute(1, 2, 0).numpy() for each in pictures]
    plot_pictures(rows, ("content", "style", *SHOWN), output, force)
    console.print(table)
    console.print(f"{output.resolve()}: held-out pairs, drawn", soft_wrap=True, highlight=False)


def _prompts_alone(content: str, style: str) -> tuple[str, str]:
    kind = SUBJECTS[content].kind
    return describe(f"{content} {kind}", PLACE), describe(f"red {kind}", PLACE, style)


def run_engines(exports: list[Export], output: Path, force: bool, console: Console) -> None:
    """Let each engine merge and draw the same pair from the same noise beside torch, as soon as its
    export is there, into one labelled picture; a table says how close.

    Raises LorararError if an export fails, or if `output` exists and is not to be replaced, or
    cannot be written.
    """
    content, style = (_held_out(role)[0] for role in ROLES)
    files = [find_lora(name) for name in (content, style)]
    prompt = describe(f"{content} {SUBJECTS[content].kind}", PLACE, style)
    wanted = _by_torch(files, prompt)
    pictures = {"torch": wanted}
    table = Table("engine", "MB", "pair swapped in, ms", "picture, s", "PSNR to torch, dB")
    for export in exports:
        with console.status(f"exporting for {export.engine}"):
            load_backend(export.engine)  # imported meanwhile, which takes seconds
            export.wait()
        pipeline = Pipeline.load(export.folder, export.engine)
        started = time.perf_counter()
        pipeline.set_pair(files[0], files[1])
        swapped = time.perf_counter()
        picture = np.asarray(pipeline.generate(prompt, seed=SEED)) / np.float32(255)
        drawn = time.perf_counter()
        pictures[export.engine] = picture
        megabytes = sum(size for size, _ in pipeline.manifest.files.values()) / 1e6
        table.add_row(
            f"{export.engine}, {pipeline.manifest.quantize}",
            f"{megabytes:.1f}",
            f"{(swapped - started) * 1e3:.1f}",
            f"{drawn - swapped:.1f}",
            f"{psnr(picture, wanted):.1f}",
        )
    plot_pictures({f"{content}\n{style}": [*pictures.values()]}, tuple(pictures), output, force)
    console.print(table)
    console.print(f"{output.resolve()}: drawn by each engine", soft_wrap=True, highlight=False)


def _by_torch(files: list[Path], prompt: str) -> np.ndarray:
    """(side, side, 3) float32 in [0, 1], from the noise that the runtime draws."""
    pipeline = load_pipeline()
    pair = [load_lora(file) for file in files]
    hypernet = load_hypernet(HYPERNET)
    with merged_into(pipeline, pair[0], pair[1], "lorarar", hypernet=hypernet) as ready:
        noise = runtime_noise(pipeline, SEED)
        drawn = draw(pipeline, [prompt], [SEED], latents=noise, **ready.arguments)
    return drawn[0].permute(1, 2, 0).numpy()


def _held_out(role: Role) -> list[str]:
    return [entry.name for entry in load_manifest(LORAS).of(role, held_out=True)]
