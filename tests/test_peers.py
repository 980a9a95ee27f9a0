import importlib.util
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import load_file

from lorarar.benchmarks import baked, peers
from lorarar.benchmarks.machine import run_and_watch
from lorarar.errors import LorararError

SCRIPTS = Path(peers.__file__).parent / "peers"


def script(name):
    """One of the peers' scripts, which are no package."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def test_a_row_that_takes_too_long_is_ended_and_said():
    with pytest.raises(LorararError, match=r"sleep\(60\) took more than 0 s"):
        run_and_watch([sys.executable, "-c", "import time; time.sleep(60)"], limit=0.2)


@pytest.fixture
def studio(tmp_path):
    return peers.Studio(tmp_path, "koala-700m", side=64, steps=3, threads=1)


def row(*first):
    """A layer with one output and 32 inputs, which share a scale."""
    weight = np.zeros((1, 32), np.float32)
    weight[0, : len(first)] = first
    return weight


@pytest.mark.parametrize(
    ("form", "survives", "error"),
    [
        ("slots", 1, 0.4 / 0.3),
        ("baked, then quantised", 1 / 0.3, 0.3 / 0.3),
        ("baked into quantised", 0, 0.7 / 0.3),
    ],
)
def test_what_survives_of_a_change_computed_by_hand(form, survives, error):
    """-8 makes a step of 1: 1.4 is kept as 1, 1.4 + 0.3 as 2, and 1 + 0.3 as 1."""
    found = baked.survival(baked.FORMS[form], row(-8, 1.4), row(0, 0.3), 4)
    assert found.survives == pytest.approx(survives)
    assert found.kept_norm == pytest.approx(survives)
    assert found.cosine == pytest.approx(1 if survives else 0)
    assert found.error == pytest.approx(error)
    assert found.change_percent == pytest.approx(100 * 0.3 / math.hypot(8, 1.4))


def test_a_small_lora_is_lost_in_4_bits_that_were_there_before_and_noise_in_those_made_anew():
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((128, 128), np.float32)
    change = 0.003 * (
        generator.standard_normal((128, 16), np.float32)
        @ generator.standard_normal((16, 128), np.float32)
    )  # 1.2 % of the weight
    anew, before, eight = (
        baked.survival(baked.FORMS[form], weight, change, bits)
        for form, bits in (
            ("baked, then quantised", 4),
            ("baked into quantised", 4),
            ("baked into quantised", 8),
        )
    )
    assert before.survives < 0.05
    assert anew.survives == pytest.approx(1, abs=0.2)
    assert anew.kept_norm > 3
    assert eight.survives > 0.9


def test_convolutions_have_8_bits_whatever_the_rest_has():
    weight = np.zeros((1, 2, 3, 3), np.float32)
    weight[0, 0, 0] = 12.7, 0.14, 0.06  # a step of 0.1
    wanted = np.zeros_like(weight)
    wanted[0, 0, 0] = 12.7, 0.1, 0.1
    np.testing.assert_allclose(baked.quantised(weight, 4), wanted, atol=1e-6)


def test_a_row_of_baked_takes_medians_and_means_over_loras():
    survival = baked.Survival(1, 0.5, 0.6, 0.7, 0.8)
    drawn = [baked.Drawn(1.0, [30.0, 20.0], [survival]), baked.Drawn(0.5, [40.0], [survival])]
    row = baked.summarise("pair", "slots", 4, drawn)
    assert (row["right"], row["psnr_db"], row["survives"]) == (0.75, 30.0, 0.5)
    assert row["right_low"] == 0.5 and row["right_high"] == 1


def test_a_picture_off_by_one_level_is_48_db_from_what_it_should_be():
    one = np.full((4, 4, 3), 100, np.uint8)
    assert peers.decibels(one, one + 1) == pytest.approx(20 * math.log10(255))
    assert peers.decibels(one, one) is None


def test_ours_and_others_get_the_noise_that_the_runtime_draws():
    found = peers.noise_of("numpy", 8)
    np.testing.assert_array_equal(
        found, np.random.default_rng(peers.SEED).standard_normal((1, 4, 8, 8), np.float32)
    )
    assert peers.noise_of("torch", 8).shape == found.shape
    assert not np.array_equal(peers.noise_of("torch", 8), found)


def test_an_environment_is_made_once_and_again_when_its_requirements_change(studio, monkeypatch):
    made, installed = [], []
    monkeypatch.setattr(
        peers.venv, "create", lambda home, **_: made.append(home.mkdir(parents=True, exist_ok=True))
    )
    monkeypatch.setattr(peers, "run_and_watch", installed.append)
    python = peers.python_of(peers.REFERENCE, studio)
    assert peers.python_of(peers.REFERENCE, studio) == python
    assert len(made) == 1 and str(SCRIPTS / "with_diffusers.txt") in installed[0]
    (python.parents[1] / "ready").write_text("torch==1.0\n")
    peers.python_of(peers.REFERENCE, studio)
    assert len(made) == 2


def test_ours_runs_in_this_environment_and_every_other_way_has_a_script_and_requirements(studio):
    for way in (way for ways in peers.WAYS.values() for way in ways):
        assert way.script.exists()
        assert way.script.with_suffix(".txt").exists() == (way.peer != "ours")
    assert peers.python_of(peers.Way("ours", "direct", "none"), studio) == Path(sys.executable)


def test_a_peer_that_does_not_draw_a_base_is_refused_with_those_that_do():
    assert {way.peer for way in peers.ways_of("sdxl", ["ours"])} == {"ours"}
    with pytest.raises(LorararError, match=r"stable-diffusion\.cpp: .* koala-700m; use diffusers"):
        peers.ways_of("koala-700m", ["ours", "stable-diffusion.cpp"])


def measured(figure, level):
    picture = np.full((8, 8, 3), level, np.uint8)
    figures = dict.fromkeys(peers.FIGURES, figure)
    return peers.Measured(figures, {"peer": "1.0"}, picture, picture + 2, peak_gb=1.5)


def test_a_peer_that_fails_is_said_and_the_others_are_measured(studio, monkeypatch, capsys):
    def measure(way, noise, studio, folder):
        if way.kind == "fused":
            raise LorararError("its wheels are not for this processor")
        return measured(
            1.0 if way == peers.REFERENCE else 2.0, 100 if way == peers.REFERENCE else 101
        )

    monkeypatch.setattr(peers, "measure", measure)
    ways = [peers.REFERENCE, peers.Way("diffusers", "fused"), peers.Way("ours", "direct", "none")]
    left_out = []
    rows = [
        peers.row_of(way, found, wanted)
        for way, found, wanted in peers.measure_all(ways, studio, Console(), left_out)
    ]
    assert [row["name"] for row in rows] == ["diffusers, peft", "ours, none, direct"]
    assert rows[0]["pair_db"] is None and rows[1]["pair_db"] == pytest.approx(48.1, abs=0.1)
    assert rows[1]["swap_ms"] == 2.0
    assert "its wheels are not for this processor" in capsys.readouterr().out
    assert left_out == ["diffusers, fused: left out (its wheels are not for this processor)"]


def test_a_run_that_was_stopped_goes_on_with_the_rows_that_it_lacks(studio, monkeypatch):
    ran = []

    def run(command, limit):
        script, task = map(Path, command[1:])
        ran.append(script.stem)
        result = task.with_name("result.json")
        result.write_text(json.dumps({"figures": {"step": len(ran)}, "versions": {}}))
        for name in ("plain", "pair"):
            np.save(result.with_suffix(f".{name}.npy"), np.zeros((8, 8, 3), np.uint8))
        return 1.0, 2.5

    monkeypatch.setattr(peers, "run_and_watch", run)
    monkeypatch.setattr(peers, "python_of", lambda way, studio: "python")
    monkeypatch.setattr(peers, "task_of", lambda *_: {})
    ways = [peers.REFERENCE, peers.Way("ours", "direct", "none")]
    for kept in (ways[:1], ways):
        rows = list(peers.measure_all(kept, studio, Console(), []))
    assert ran == ["with_diffusers", "with_ours"]
    assert [found.figures["step"] for _, found, _ in rows] == [1, 2]
    assert rows[0][1].peak_gb == 2.5
    longer = replace(studio, steps=9)
    list(peers.measure_all(ways[:1], longer, Console(), []))
    assert ran[2:] == ["with_diffusers"]


def test_a_merge_of_another_kind_is_not_held_against_the_plain_sum():
    way = peers.Way("ours", "lorarar", "none")
    row = peers.row_of(way, measured(1.0, 101), measured(1.0, 100))
    assert row["plain_db"] == pytest.approx(48.1, abs=0.1) and row["pair_db"] is None


@pytest.mark.parametrize(
    ("reads", "swap"), [("at once", 5), ("while drawing", 25), ("each time", 30)]
)
def test_a_swap_is_what_the_pair_costs_whenever_it_is_read(reads, swap, tmp_path, monkeypatch):
    """Putting in takes 5 ms, a step 100; the first step with another pair 20 more, and where
    pairs are read for each picture, that takes 30 each time."""
    measuring = script("measuring")
    now, current, drawn_with = 0.0, None, None
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now)

    def put(pair):
        nonlocal now, current
        now, current = now + 0.005, pair

    def draw(steps, side, mark):
        nonlocal now, drawn_with
        if reads == "each time":
            now += 0.03 if current else 0
        elif current != drawn_with:
            now += 0.02
        drawn_with = current
        for _ in range(steps):
            now += 0.1
            mark()
        return np.zeros((side, side, 3), np.uint8)

    result = tmp_path / "result.json"
    task = measuring.Task(
        model="", kind="", pairs=[["a", "b"], ["c", "d"]], prompt="", side=64, steps=4,
        guidance=5, seed=0, noise="", sigmas=[], threads=1, result=str(result),
    )  # fmt: skip
    measuring.measure(task, draw, put, {"peer": "1.0"}, reads=reads, load_ms=7)
    said = json.loads(result.read_text())
    assert said["figures"] == pytest.approx(
        {"load_ms": 7, "step_plain_ms": 100, "step_pair_ms": 100, "swap_ms": swap}
    )
    assert np.load(tmp_path / "result.pair.npy").shape == (64, 64, 3)


def test_the_task_that_is_written_is_what_the_scripts_read(studio, tmp_path, monkeypatch):
    measuring = script("measuring")
    monkeypatch.setattr(peers.EulerDiscreteScheduler, "from_pretrained", lambda _: scheduler())
    task = peers.task_of(peers.REFERENCE, "numpy", studio, tmp_path / "result.json")
    (tmp_path / "task.json").write_text(json.dumps(task))
    monkeypatch.setattr(sys, "argv", ["script", str(tmp_path / "task.json")])
    read = measuring.Task.read()
    assert len(read.pairs) == 2 and len(read.sigmas) == studio.steps + 1 and read.sigmas[-1] == 0
    assert np.load(read.noise).shape == (1, 4, 8, 8)


def scheduler():
    from lorarar.diffusion.assemble import make_scheduler

    return make_scheduler()


def test_seeded_loras_say_the_same_by_both_names(tmp_path):
    script("make_seeded").write_loras(tmp_path, "mini")
    ours, kohya = (load_file(tmp_path / f"{kind}-1.safetensors") for kind in ("diffusers", "kohya"))
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    for one, other in (("lora_A", "lora_down"), ("lora_B", "lora_up")):
        np.testing.assert_array_equal(
            ours[f"unet.{name}.{one}.weight"],
            kohya[f"lora_unet_{name.replace('.', '_')}.{other}.weight"],
        )
    assert len(ours) == len(kohya)


def test_a_constant_encoder_says_the_same_of_every_token(tmp_path):
    from transformers import CLIPTextModelWithProjection

    from lorarar.bases import BASES

    made = script("make_seeded").constant_encoder(CLIPTextModelWithProjection, BASES["mini"], 1)
    made.save_pretrained(tmp_path)
    encoder = CLIPTextModelWithProjection.from_pretrained(tmp_path, dtype=torch.float32)
    one, other = (
        encoder(torch.tensor([ids]), output_hidden_states=True)
        for ids in ([5, 7, 49407], [1, 2, 49407])
    )
    states = one.hidden_states[-2][0]
    torch.testing.assert_close(states[0], states[2])
    torch.testing.assert_close(states, other.hidden_states[-2][0])
    torch.testing.assert_close(one.text_embeds, other.text_embeds)
    assert one.text_embeds.abs().max() > 0.1
