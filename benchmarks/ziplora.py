"""Real ZipLoRA steps (arXiv 2311.13600, section 3.3) on a UNet of a base's true size, timed.

Weights are random, as no real ones may be assumed; a step's time does not depend on their values.
"""

import statistics
import time
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from lorarar.bases import BASES, Base
from lorarar.benchmarks.report import Report
from lorarar.lora import Lora
from lorarar.standin import standin_lora

PUBLISHED_STEPS = 100
LEARNING_RATE = 0.01
SIMILARITY_WEIGHT = 0.01
TOKENS = 77


class PairedLinear(nn.Module):
    """A frozen projection with two LoRAs: W x, plus what `mode` asks for.

    "content" and "style" add that LoRA alone, "merged" both, their inputs scaled by the columns'
    coefficients m, (2, in), the only parameter.
    """

    def __init__(self, linear: nn.Linear, factors: list[list[Tensor]]):
        super().__init__()
        self.linear = linear
        self.factors = factors
        self.m = nn.Parameter(torch.ones(2, linear.in_features, dtype=linear.weight.dtype))
        self.mode = "merged"

    def forward(self, x: Tensor) -> Tensor:
        result = self.linear(x)
        for role, (up, down), m in zip(("content", "style"), self.factors, self.m, strict=True):
            if self.mode == "merged":
                result = result + ((x * m) @ down.T) @ up.T
            elif self.mode == role:
                result = result + (x @ down.T) @ up.T
        return result


def build_unet(base: Base, dtype: torch.dtype, heads: tuple[int, int, int] = (5, 10, 20)) -> Any:
    """Build the base's UNet with random weights (diffusers `UNet2DConditionModel`)."""
    shallow, deep = base.transformer_layers
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(
            block_out_channels=(base.widths[0] // 2, *base.widths),
            layers_per_block=base.layers_per_block,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DCrossAttn" if base.mid_block else None,
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=[1, shallow, deep],
            attention_head_dim=heads,
            cross_attention_dim=base.cross_attention,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
    unet.enable_gradient_checkpointing()
    unet = unet.to(dtype).to_empty(device="cpu").requires_grad_(False)
    torch.manual_seed(0)
    for name, weight in unet.named_parameters():
        if name.endswith("bias"):
            weight.zero_()
        elif weight.ndim == 1:
            weight.fill_(1)
        else:
            weight.normal_(0, weight[0].numel() ** -0.5)
    return unet


def adapt(unet: Any, content: Lora, style: Lora) -> list[PairedLinear]:
    """Replace each adapted projection by a `PairedLinear`."""
    paired = []
    for name in content.layers:
        path = name.removeprefix("unet.")
        linear = unet.get_submodule(path)
        factors = [
            [torch.from_numpy(f).to(linear.weight.dtype) for f in lora.layers[name][:2]]
            for lora in (content, style)
        ]
        paired.append(PairedLinear(linear, factors))
        parent, _, child = path.rpartition(".")
        setattr(unet.get_submodule(parent), child, paired[-1])
    return paired


def step(unet, paired: list[PairedLinear], optimiser, inputs: dict) -> float:
    """One optimisation step: match each LoRA alone on its own input, keep m_c and m_s apart."""

    def predict(mode: str, role: str) -> Tensor:
        for layer in paired:
            layer.mode = mode
        return unet(**inputs[role]).sample

    overlaps = [layer.m.prod(0).abs().sum() for layer in paired]
    loss = torch.stack(overlaps).sum() * SIMILARITY_WEIGHT
    loss.backward()
    for role in ("content", "style"):
        with torch.no_grad():
            wanted = predict(role, role)
        difference = (predict("merged", role) - wanted).float().square().mean()
        difference.backward()
        loss = loss + difference.detach()
    optimiser.step()
    optimiser.zero_grad()
    return float(loss)


def add_ziplora(report: Report, steps: int, latents: int) -> None:
    """Time `steps` real steps and add a row for 100 of them, scaled, and a note saying so."""
    base, rank, dtype = report.settings["base"], report.settings["rank"], torch.bfloat16
    torch.set_num_threads(report.settings["threads"])
    unet = build_unet(BASES[base], dtype)
    unet.train()
    paired = adapt(unet, standin_lora(base, rank, 1), standin_lora(base, rank, 2))
    optimiser = torch.optim.AdamW([layer.m for layer in paired], lr=LEARNING_RATE)
    torch.manual_seed(1)
    inputs = {
        role: {
            "sample": torch.randn(1, 4, latents, latents, dtype=dtype),
            "timestep": 500,
            "encoder_hidden_states": torch.randn(
                1, TOKENS, BASES[base].cross_attention, dtype=dtype
            ),
            "added_cond_kwargs": {
                "text_embeds": torch.randn(1, 1280, dtype=dtype),
                "time_ids": torch.ones(1, 6, dtype=dtype),
            },
        }
        for role in ("content", "style")
    }
    times = []
    for _ in range(steps):
        started = time.perf_counter()
        step(unet, paired, optimiser, inputs)
        times.append((time.perf_counter() - started) * 1e3)
    parameters = sum(weight.numel() for weight in unet.parameters()) / 1e6
    dense = next(row for row in report.rows if row["name"].startswith("dense"))
    whole = statistics.median(times) * PUBLISHED_STEPS
    report.rows.append(
        dict.fromkeys(dense)
        | {
            "name": f"ZipLoRA, {PUBLISHED_STEPS} steps (scaled)",
            "median_ms": whole,
            "min_ms": min(times) * PUBLISHED_STEPS,
            "max_ms": max(times) * PUBLISHED_STEPS,
            "times_dense": dense["median_ms"] / whole,
        }
    )
    report.notes.append(
        f"ZipLoRA: {steps} real steps of {statistics.median(times) / 1e3:.1f} s each on a UNet of "
        f"{parameters:.0f} M parameters ({base}, random weights, bfloat16, {latents}x{latents} "
        f"latents = {8 * latents} px, gradient checkpointing), scaled to {PUBLISHED_STEPS} steps; "
        "the published setting is 1024 px, where a step costs more."
    )
    for row in report.rows:
        if row["name"].startswith(("factored", "prepared")):
            report.notes.append(
                f"{row['name']}: {whole / row['median_ms']:.0f} times faster than ZipLoRA so"
            )
