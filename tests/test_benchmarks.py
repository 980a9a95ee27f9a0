import itertools
import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import reference
import torch
import typer
from typer.testing import CliRunner

from lorarar import Hypernet, benchmarks
from lorarar.bases import BASES, attention_shapes
from lorarar.benchmarks import ziplora
from lorarar.benchmarks.forms import cost, dense_coefficients
from lorarar.benchmarks.machine import interleaved, peak_gpu_memory, peak_memory, spread
from lorarar.benchmarks.merge_latency import DENSE, main
from lorarar.benchmarks.report import Report
from lorarar.benchmarks.training_memory import run_and_watch
from lorarar.diffusion.standin import standin_unet
from lorarar.errors import LorararError
from lorarar.standin import standin_lora

ROOT = Path(benchmarks.__file__).parent


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
    flops = {
        form: cost(form, *pair, hypernet=hypernet, itemsize=4).gflop
        for form in ("dense", "factored", "full")
    }
    assert math.isclose(flops["dense"], 450, rel_tol=0.05)
    assert math.isclose(flops["factored"], 22, rel_tol=0.05)
    assert math.isclose(flops["full"], 0.25, rel_tol=0.1)
    kept = cost("full", *pair, hypernet=hypernet, itemsize=2).gigabytes
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


def test_peak_gpu_memory_is_what_the_gpu_has_less_meanwhile(monkeypatch):
    free = itertools.chain([3_000_000_000, 1_000_000_000], itertools.repeat(2_500_000_000))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (next(free), 4_000_000_000))
    with peak_gpu_memory() as peak:
        time.sleep(0.05)
    assert peak.megabytes == 2000


@pytest.mark.parametrize(("published", "scaled"), [(2, False), (4, True)])
def test_ziplora_is_timed_by_real_steps(published, scaled, monkeypatch):
    monkeypatch.setattr(ziplora, "STEPS", published)
    dense = {"name": DENSE, "median_ms": 1.0, "min_ms": 1.0, "max_ms": 1.0}
    settings = {"base": "mini", "rank": 2, "threads": 1}
    report = Report(
        benchmark="merge_latency",
        machine={},
        settings=settings,
        rows=[dense | {"name": "factored"}, dense],
    )
    ziplora.add_ziplora(report, 2, 8)
    row = report.rows[-1]
    assert row["name"].endswith("(scaled)") == scaled
    assert row["min_ms"] <= row["median_ms"] <= row["max_ms"]
    assert any("2 real steps" in note and ("scaled to" in note) == scaled for note in report.notes)
    assert f"factored: {row['median_ms']:.0f} times" in report.notes[-1]


def test_the_random_unet_has_the_base_s_projections():
    tiny = replace(BASES["mini"], widths=(96, 128), cross_attention=32, head_width=16)
    unet = standin_unet(tiny, torch.float32)
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


def test_a_command_s_peak_memory_is_its_own():
    holding = "import time; held = b'x' * 400_000_000; time.sleep(0.2)"
    seconds, gigabytes = run_and_watch([sys.executable, "-c", holding])
    assert seconds > 0 and 0.4 < gigabytes < 0.6
    _, without = run_and_watch([sys.executable, "-c", "import time; time.sleep(0.2)"])
    assert without < 0.2
    with pytest.raises(LorararError, match="failed: so it is"):
        run_and_watch([sys.executable, "-c", "import sys; sys.exit('so it is')"])
