import json
import math
from pathlib import Path

import jsonschema
import numpy as np
import reference
import torch
import typer
from diffusers import UNet2DConditionModel
from typer.testing import CliRunner

from lorarar import Hypernet, Layer, Lora
from lorarar.bases import Base, attention_shapes
from lorarar.benchmarks import ziplora
from lorarar.benchmarks.forms import cost, dense_coefficients
from lorarar.benchmarks.machine import interleaved, peak_memory, spread
from lorarar.benchmarks.merge_latency import DENSE, main
from lorarar.standin import standin_lora

ROOT = Path(ziplora.__file__).parent


def test_the_dense_form_is_the_published_formula():
    hypernet = Hypernet.random(hidden=8)
    pair = [standin_lora("koala-700m", 1, seed, np.float32) for seed in (1, 2)]
    names = [name for name in pair[0].layers if hypernet.predicted(name)]
    found = dense_coefficients(*pair, hypernet, threads=1)
    assert len(found) == len(names) == 84
    name = names[0]
    dense = [reference.dense(*lora.layers[name]) for lora in pair]
    wanted = reference.coefficients(*dense, *hypernet.inputs[640], *hypernet.output)
    assert np.linalg.norm(found[0].numpy() - wanted) < 1e-4 * np.linalg.norm(wanted)


def test_costs_are_those_of_the_method():
    """SDXL at rank 64: 440 GFLOP dense, about 21 factored, 0.16 prepared (without sum and ReLU)."""
    hypernet = Hypernet.random()
    pair = [standin_lora("sdxl", 64, seed) for seed in (1, 2)]
    flops = {form: cost(form, *pair, hypernet, 4).gflop for form in ("dense", "factored", "full")}
    assert math.isclose(flops["dense"], 450, rel_tol=0.05)
    assert math.isclose(flops["factored"], 22, rel_tol=0.05)
    assert math.isclose(flops["full"], 0.25, rel_tol=0.1)
    kept = cost("full", *pair, hypernet, 2).gigabytes
    assert math.isclose(kept, 2 * 0.092 * 0.93, rel_tol=0.05)  # two LoRAs' features in fp16


def test_peak_memory_sees_an_allocation_and_spread_its_times():
    with peak_memory() as peak:
        held = np.ones(64 << 20, np.uint8)
    assert held.all()
    assert 60 < peak.megabytes < 80
    order = []
    works = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    times = interleaved(works, 3, lambda _: None)
    assert order == ["a", "b"] * 3 and all(len(measured) == 3 for measured in times.values())
    assert spread([0.001, 0.003, 0.002]) == {"median_ms": 2.0, "min_ms": 1.0, "max_ms": 3.0}


def test_a_ziplora_step_reduces_the_loss_and_trains_the_coefficients_only():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        cross_attention_dim=16,
        norm_num_groups=8,
    ).requires_grad_(False)
    path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    generator = np.random.default_rng(0)
    pair = [
        Lora(
            {
                f"unet.{path}": Layer(
                    generator.standard_normal((64, 4), np.float32),
                    generator.standard_normal((4, 64), np.float32),
                )
            }
        )
        for _ in range(2)
    ]
    (layer,) = ziplora.adapt(unet, *pair)
    x = torch.randn(3, 64)
    layer.mode = "content"
    wanted = (
        layer.linear(x)
        + x @ torch.from_numpy(reference.dense(*pair[0].layers[f"unet.{path}"])).T.float()
    )
    assert torch.allclose(layer(x), wanted, atol=1e-4)
    optimiser = torch.optim.AdamW([layer.m], lr=0.01)
    inputs = {
        role: {
            "sample": torch.randn(1, 4, 8, 8),
            "timestep": 500,
            "encoder_hidden_states": torch.randn(1, 5, 16),
        }
        for role in ("content", "style")
    }
    before = {name: weight.clone() for name, weight in unet.named_parameters()}
    losses = [ziplora.step(unet, [layer], optimiser, inputs) for _ in range(20)]
    assert losses[-1] < losses[0]
    changed = {name for name, weight in unet.named_parameters() if not weight.equal(before[name])}
    assert changed == {f"{path}.m"}


def test_the_random_unet_has_the_base_s_projections():
    tiny = Base(1, (1, 1), widths=(64, 128), cross_attention=32)
    unet = ziplora.build_unet(tiny, torch.float32, heads=(2, 4, 8))
    for name, shape in attention_shapes(tiny).items():
        assert tuple(unet.get_submodule(name).weight.shape) == shape
    assert all(weight.isfinite().all() for weight in unet.parameters())


def test_merge_latency_prints_a_table_and_writes_the_schema_s_json(tmp_path):
    app = typer.Typer()
    app.command()(main)
    path = tmp_path / "out.json"
    arguments = [
        "--backend",
        "numpy",
        "--backend",
        "torch",
        "--base",
        "koala-700m",
        "--rank",
        "2",
        "--rounds",
        "2",
    ]
    done = CliRunner().invoke(app, [*arguments, "--threads", "2", "--json", str(path)])
    assert done.exit_code == 0, done.output
    report = json.loads(path.read_text())
    jsonschema.validate(report, json.loads((ROOT / "schema.json").read_text()))
    assert "times dense" in done.output and "koala-700m" in done.output
    rows = {row["name"]: row for row in report["rows"]}
    wanted = {
        "file to file",
        "copy of the same bytes",
        "factored, numpy",
        "prepared, small, torch",
        DENSE,
    }
    assert wanted < rows.keys()
    assert rows[DENSE]["times_dense"] == 1
    for row in rows.values():
        assert 0 < row["min_ms"] <= row["median_ms"] <= row["max_ms"]
    assert report["settings"]["threads"] == 2 and report["machine"]["gflop_per_second"] > 0
