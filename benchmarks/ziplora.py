"""Real ZipLoRA steps (arXiv 2311.13600, section 3.3) on a UNet of a base's true size, timed.

Weights are random, as no real ones may be assumed; a step's time does not depend on their values.
"""

import statistics
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from lorarar.bases import BASES
from lorarar.benchmarks.machine import describe_gpu
from lorarar.benchmarks.report import Report
from lorarar.diffusion.pipeline import fastest_device
from lorarar.diffusion.standin import standin_unet
from lorarar.embedded import BASE as EMBEDDED_BASE
from lorarar.embedded import NAME
from lorarar.hypernet import ROLES
from lorarar.standin import standin_lora
from lorarar.training.denoising import Examples
from lorarar.training.ziplora import STEPS, optimise

TOKENS = 77
PUBLISHED_LATENTS = 128


@dataclass(frozen=True)
class Steps:
    """Real steps. milliseconds: of each; latents: their side; parameters: the UNet's, in millions;
    how: what helped."""

    milliseconds: list[float]
    latents: int
    parameters: float
    how: str

    @property
    def median(self) -> float:
        """Milliseconds of one step."""
        return statistics.median(self.milliseconds)

    def scaled(self) -> dict[str, float]:
        """Columns for all published steps: the sum where all were taken, else their median's."""
        times = self.milliseconds
        return {
            "median_ms": sum(times) if len(times) == STEPS else self.median * STEPS,
            "min_ms": min(times) * STEPS,
            "max_ms": max(times) * STEPS,
        }


def time_steps(unet: Any, base: str, *, rank: int, steps: int, latents: int) -> Steps:
    """Take `steps` real steps on this UNet, in its dtype, with seeded LoRAs and random examples.

    On a GPU, if it is there; on a CPU with gradient checkpointing, as memory is scarcer there.
    """
    on_gpu = unet.device.type != "cpu"
    if not on_gpu:
        unet.enable_gradient_checkpointing()
    torch.manual_seed(1)
    examples = {
        role: Examples(
            torch.randn(1, unet.config.in_channels, latents, latents),
            torch.randn(1, TOKENS, BASES[base].cross_attention, dtype=unet.dtype),
            torch.randn(1, BASES[base].pooled, dtype=unet.dtype),
            torch.ones(1, 6, dtype=unet.dtype),
        ).to(unet.device)
        for role in ROLES
    }
    content, style = (standin_lora(base, rank, seed) for seed in (1, 2))
    ended = [time.perf_counter()]
    optimise(
        unet,
        DDPMScheduler(),
        content,
        style,
        examples=examples,
        after_step=lambda: ended.append(time.perf_counter()),
        steps=steps,
    )
    times = [(after - before) * 1e3 for before, after in pairwise(ended)]
    parameters = sum(weight.numel() for weight in unet.parameters()) / 1e6
    held = f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB of GPU memory" if on_gpu else ""
    return Steps(times, latents, parameters, held or "gradient checkpointing")


def time_standin(base: str, rank: int, steps: int, latents: int, threads: int) -> Steps:
    """The same on a UNet of a base's true size with random weights in bfloat16."""
    torch.set_num_threads(threads)
    unet = standin_unet(BASES[base], torch.bfloat16, latents, fastest_device())
    return time_steps(unet, base, rank=rank, steps=steps, latents=latents)


def time_embedded(rank: int, threads: int) -> Steps:
    """All published steps on the embedded model's UNet, with its weights, in float32."""
    torch.set_num_threads(threads)
    unet = UNet2DConditionModel.from_pretrained(EMBEDDED_BASE / "unet")
    return time_steps(unet, NAME, rank=rank, steps=STEPS, latents=unet.config.sample_size)


def scaled_name(steps: int) -> str:
    return f"ZipLoRA, {STEPS} steps{'' if steps == STEPS else ' (scaled)'}"


def describe_steps(found: Steps, base: str) -> str:
    """One line: how many real steps of what, and what they were scaled to."""
    steps = len(found.milliseconds)
    note = (
        f"ZipLoRA: {steps} real steps of {found.median / 1e3:.2f} s each on a UNet of "
        f"{found.parameters:.0f} M parameters ({base}, random weights, bfloat16, "
        f"{found.latents}x{found.latents} latents = {8 * found.latents} px, {found.how})"
    )
    if steps != STEPS:
        note += f", scaled to {STEPS} steps"
    if found.latents < PUBLISHED_LATENTS:
        note += "; the published setting is 1024 px, where a step costs more."
    return note


def add_ziplora(report: Report, steps: int, latents: int) -> None:
    """Time `steps` real steps; add a row for 100 of them, and a note."""
    base, rank, threads = (report.settings[key] for key in ("base", "rank", "threads"))
    found = time_standin(base, rank, steps, latents, threads)
    report.machine |= describe_gpu()
    dense = next(row for row in report.rows if row["name"].startswith("dense"))
    whole = found.scaled()["median_ms"]
    report.rows.append(
        dict.fromkeys(dense)
        | {
            "name": scaled_name(steps),
            **found.scaled(),
            "times_dense": dense["median_ms"] / whole,
        }
    )
    report.notes.append(describe_steps(found, base))
    for row in report.rows:
        if row["name"].startswith(("factored", "prepared")):
            report.notes.append(
                f"{row['name']}: {whole / row['median_ms']:.0f} times faster than ZipLoRA so"
            )
