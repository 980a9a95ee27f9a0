"""What comes with the project: small enough, complete, and able to draw."""

import os
import re
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from matplotlib.image import imread
from test_cli import run

from lorarar import load_hypernet, load_lora, merge
from lorarar.artefacts.training import TrainingManifest, load_manifest
from lorarar.benchmarks.pictures import Task, prompts_of
from lorarar.diffusion.pipeline import draw, load_pipeline, put_lora
from lorarar.embedded import EMBEDDED
from lorarar.mini import demo, demo_exports, pictures
from lorarar.mini.demo_exports import Export
from lorarar.mini.judge import accuracy, ask, load_judge
from lorarar.mini.styles import STYLES
from lorarar.mini.world import HELD_OUT_STYLES, HELD_OUT_SUBJECTS, SUBJECTS
from lorarar.numeric import psnr
from lorarar.quiet import without_native_notes
from lorarar.training import ziplora

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def judge():
    return load_judge(EMBEDDED / "judge.safetensors")


def _size(folder, pattern="*"):
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


def test_it_is_as_small_as_promised():
    assert _size(EMBEDDED / "base") < 25 * MEGABYTE
    loras = _size(EMBEDDED / "loras", "*.safetensors")
    assert loras + (EMBEDDED / "hypernet.safetensors").stat().st_size < 10 * MEGABYTE


def test_judge_is_right_on_fresh_drawings(judge):
    assert min(accuracy(judge, 1024).values()) > 0.97


def test_plain_diffusers_draws_what_is_asked(judge):
    pipeline = StableDiffusionXLPipeline.from_pretrained(EMBEDDED / "base")
    pipeline.set_progress_bar_config(disable=True)
    classes = ("dog", "fish", "house", "tree", "cup", "car")
    prompts = [f"a red {kind} on grass" for kind in classes]
    pictures = draw(pipeline, prompts, seeds=[*range(6)])
    said = ask(judge, pictures)
    assert sum(a == b for a, b in zip(said["class"], classes, strict=True)) >= 5
    assert said["style"].count("plain") >= 5


def test_every_subject_and_style_is_described_and_those_held_out_have_their_loras():
    manifest = load_manifest(EMBEDDED / "loras")
    assert {e.name for e in manifest.loras} == {*SUBJECTS, *STYLES}
    held_out = [e for e in manifest.loras if e.held_out]
    assert {e.name for e in held_out} == {*HELD_OUT_SUBJECTS, *HELD_OUT_STYLES}
    assert {load_lora(entry.file).base for entry in held_out} == {"mini"}


def test_held_out_loras_teach_the_base_their_subject_or_style(judge):
    pipeline = load_pipeline()
    seeds = [*range(4)]
    for task, question in (
        (Task("content", "votol", None), "subject"),
        (Task("style", None, "neon"), "style"),
    ):
        prompts, name = prompts_of(task, 4), task.key
        put_lora(pipeline, None)
        without = draw(pipeline, prompts, seeds)
        put_lora(pipeline, load_lora(EMBEDDED / "loras" / f"{name}.safetensors"))
        with_it = draw(pipeline, prompts, seeds)
        assert ask(judge, without)[question].count(name) <= 1
        assert ask(judge, with_it)[question].count(name) >= 3


def test_embedded_hypernetwork_weighs_a_pair_that_it_has_never_seen():
    pair = [load_lora(EMBEDDED / "loras" / f"{n}.safetensors") for n in ("votol", "neon")]
    hypernet = load_hypernet(EMBEDDED / "hypernet.safetensors")
    merged, plain = merge(*pair, hypernet=hypernet), merge(*pair, method="direct")
    name = next(name for name in merged.layers if name.endswith("attn2.to_q"))
    assert not np.allclose(merged.layers[name].down, plain.layers[name].down, atol=1e-3)


def test_generate_draws_with_embedded_names(tmp_path, monkeypatch):
    pair = ("--content", "votol", "--style", "neon", "--prompt", "a votol cup in neon style")
    for method in ("lorarar", "direct"):
        picture = tmp_path / f"{method}.png"
        options = ("--method", method, "--steps", 2, "-o", picture)
        assert run(monkeypatch, "generate", *pair, *options) == 0
    half = ("--precision", "bf16", "--steps", 2, "-o", tmp_path / "bf16.png")
    assert run(monkeypatch, "generate", *pair, *half) == 0
    whole, plain, rounded = (imread(tmp_path / f"{n}.png") for n in ("lorarar", "direct", "bf16"))
    assert whole.shape == (64, 64, 3) and not np.array_equal(whole, plain)
    assert 25 < psnr(rounded, whole) < 60
    assert run(monkeypatch, "generate", *pair, "-o", picture) == 1


def test_generate_says_which_seed_it_chose(tmp_path, monkeypatch, capsys):
    pair = ("--content", "votol", "--style", "neon", "--prompt", "a cup", "--steps", 1)
    assert run(monkeypatch, "generate", *pair, "--seed", -1, "-o", tmp_path / "any.png") == 0
    seed = re.search(r"^seed (\d+)$", capsys.readouterr().out, re.MULTILINE)[1]
    assert run(monkeypatch, "generate", *pair, "--seed", seed, "-o", tmp_path / "same.png") == 0
    assert (tmp_path / "any.png").read_bytes() == (tmp_path / "same.png").read_bytes()


def test_ziplora_draws_the_images_that_it_needs(tmp_path, monkeypatch):
    """As from a wheel: beside the embedded LoRAs are none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pictures, "FOLDERS", ("votol", "neon"))
    monkeypatch.setattr(ziplora, "STEPS", 1)
    pair = ("--content", "votol", "--style", "neon", "--prompt", "a votol cup in neon style")
    options = ("--method", "ziplora", "--steps", 1, "-o", tmp_path / "zip.png")
    assert run(monkeypatch, "generate", *pair, *options) == 0
    assert imread(tmp_path / "zip.png").shape == (64, 64, 3)
    assert not (EMBEDDED / "loras" / "images").exists()


def test_commands_say_nothing_of_what_their_libraries_do():
    """Loading diffusers and ExecuTorch says a dozen lines by itself."""
    code = """
from lorarar.quiet import silence_libraries
silence_libraries()
from lorarar.diffusion import pipeline
from lorarar.runtime.backends import executorch
executorch.use_threads(1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_only_executorchs_notes_are_dropped(capfd):
    note = b"[cpuinfo_utils.cpp:100] Reading file /sys/devices\n"
    with without_native_notes():
        os.write(2, note + b"check failed: aborting\n" + note)
    os.write(2, note)
    assert capfd.readouterr().err.encode() == b"check failed: aborting\n" + note


def test_generate_names_a_lora_that_is_missing(tmp_path, monkeypatch, capsys):
    pair = ("--content", "nobody", "--style", "neon", "--prompt", "a dog")
    assert run(monkeypatch, "generate", *pair, "-o", tmp_path / "x.png") == 1
    assert "nobody" in capsys.readouterr().err


def test_demo_draws_a_labelled_grid_and_prints_timings(
    tmp_path, monkeypatch, capsys, exported_int8
):
    def of_one_pair(path):
        known = load_manifest(path)
        return TrainingManifest(
            path, tuple(e for e in known.loras if e.name in ("votol", "neon")), {}
        )

    monkeypatch.setattr(demo, "load_manifest", of_one_pair)
    done = subprocess.Popen([sys.executable, "-c", "pass"])
    exported = Export("onnxruntime", exported_int8, tmp_path / "said", done)
    monkeypatch.setattr(demo_exports, "exported_beside", lambda engine: nullcontext(exported))
    output = tmp_path / "demo.png"
    assert run(monkeypatch, "demo", "-o", output) == 0
    said = capsys.readouterr().out
    assert "votol" in said and "onnxruntime, int8" in said
    height, width, _ = imread(output).shape
    assert width > 2 * height > 0
    assert imread(tmp_path / "demo-engines.png").size
    assert run(monkeypatch, "demo", "-o", output) == 1


def test_pictures_are_the_same_twice():
    pipeline = load_pipeline()
    first, again = (draw(pipeline, ["a red dog on sand"], [5], steps=3) for _ in range(2))
    assert torch.equal(first, again)
