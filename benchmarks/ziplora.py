"""Real ZipLoRA steps (arXiv 2311.13600, section 3.3) on a UNet of a base's true size, timed.

Weights are random, as no real ones may be assumed; a step's time does not depend on their values.
"""

import statistics
import time
from itertools import pairwise

import torch
from diffusers import DDPMScheduler

from lorarar.bases import BASES
from lorarar.benchmarks.machine import describe_gpu
from lorarar.benchmarks.report import Report
from lorarar.diffusion.pipeline import fastest_device
from lorarar.diffusion.standin import standin_unet
from lorarar.hypernet import ROLES
from lorarar.standin import standin_lora
from lorarar.training.denoising import Examples
from lorarar.training.ziplora import STEPS, optimise

TOKENS = 77
PUBLISHED_LATENTS = 128


def add_ziplora(report: Report, steps: int, latents: int) -> None:
    """Time `steps` real steps; add a row for 100 of them, and a note.

    On a GPU, if there is one; on a CPU with gradient checkpointing, as memory is scarcer there.
    """
    base, rank, dtype = report.settings["base"], report.settings["rank"], torch.bfloat16
    torch.set_num_threads(report.settings["threads"])
    device = fastest_device()
    unet = standin_unet(BASES[base], dtype, latents, device)
    on_gpu = device.type != "cpu"
    if not on_gpu:
        unet.enable_gradient_checkpointing()
    report.machine |= describe_gpu()
    torch.manual_seed(1)
    examples = {
        role: Examples(
            torch.randn(1, 4, latents, latents),
            torch.randn(1, TOKENS, BASES[base].cross_attention, dtype=dtype),
            torch.randn(1, BASES[base].pooled, dtype=dtype),
            torch.ones(1, 6, dtype=dtype),
        ).to(device)
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
    dense = next(row for row in report.rows if row["name"].startswith("dense"))
    scaled = steps != STEPS
    whole = statistics.median(times) * STEPS if scaled else sum(times)
    report.rows.append(
        dict.fromkeys(dense)
        | {
            "name": f"ZipLoRA, {STEPS} steps{' (scaled)' if scaled else ''}",
            "median_ms": whole,
            "min_ms": min(times) * STEPS,
            "max_ms": max(times) * STEPS,
            "times_dense": dense["median_ms"] / whole,
        }
    )
    held = f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB of GPU memory"
    note = (
        f"ZipLoRA: {steps} real steps of {statistics.median(times) / 1e3:.2f} s each on a UNet of "
        f"{parameters:.0f} M parameters ({base}, random weights, bfloat16, {latents}x{latents} "
        f"latents = {8 * latents} px, {held if on_gpu else 'gradient checkpointing'})"
    )
    if scaled:
        note += f", scaled to {STEPS} steps"
    if latents < PUBLISHED_LATENTS:
        note += "; the published setting is 1024 px, where a step costs more."
    report.notes.append(note)
    for row in report.rows:
        if row["name"].startswith(("factored", "prepared")):
            report.notes.append(
                f"{row['name']}: {whole / row['median_ms']:.0f} times faster than ZipLoRA so"
            )
