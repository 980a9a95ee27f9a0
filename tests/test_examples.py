"""The examples do what they say, run as people run them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
from PIL import Image

from lorarar import load_hypernet, load_lora
from lorarar.embedded import HYPERNET, find_lora

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(tmp_path):
    """Run an example in an empty folder, on one thread; gives what it printed."""

    def example(name, *arguments):
        done = subprocess.run(
            [sys.executable, EXAMPLES / name, *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return example


@pytest.mark.parametrize(
    ("options", "rank"), [((), 12), (("--hypernet", HYPERNET), 12), (("--rank", 5), 5)]
)
def test_merging_two_files_writes_one(run, tmp_path, options, rank):
    printed = run("merge_two_files.py", find_lora("votol"), find_lora("neon"), *options)
    merged = load_lora(tmp_path / "merged.safetensors")
    assert {layer.rank for layer in merged.layers.values()} == {rank}
    assert "merged.safetensors: 56 layers of mini" in printed
    assert ("relative error" in printed) == ("--rank" in options)


def test_drawing_with_a_pair_gives_a_picture_of_it(run, tmp_path):
    printed = run("draw_with_a_pair.py", "votol", "neon", "a votol cup in neon style", "--steps", 2)
    assert Image.open(tmp_path / "picture.png").size == (64, 64)
    assert "merged in" in printed


def test_swapping_loras_draws_each_pair(run, tmp_path, exported_int8):
    pair = "votol", "neon", find_lora("ink")
    run("swap_loras.py", exported_int8, *pair, "--prompt", "a votol cup in {} style", "--steps", 2)
    neon, ink = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("neon", "ink"))
    assert neon.shape == ink.shape == (64, 64, 3)
    assert (neon != ink).any()


def test_training_on_ones_own_pictures_gives_loras_and_a_hypernetwork(run, tmp_path):
    generator = np.random.default_rng(0)
    for folder in ("content/zupra dog", "style/ink", "style/neon"):
        (tmp_path / "pictures" / folder).mkdir(parents=True)
        for index in range(2):
            pixels = generator.integers(0, 256, (64, 64, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / folder / f"{index}.png")
    run("train_on_your_pictures.py", "pictures", "--lora-steps", 2, "--hypernet-steps", 2)
    trained = load_lora(tmp_path / "pictures" / "zupra dog.safetensors")
    assert trained.base == "mini"
    assert trained.metadata["lorarar.prompt"] == "a zupra dog"
    assert load_lora(tmp_path / "pictures" / "ink.safetensors").metadata["lorarar.kind"] == "style"
    assert load_hypernet(tmp_path / "pictures" / "hypernet.safetensors").hidden == 128


def test_the_method_added_makes_both_loras_equally_strong(run, tmp_path):
    content, style = find_lora("votol"), find_lora("neon")
    run("add_a_method.py", content, style)
    merged = load_lora(tmp_path / "balanced.safetensors")
    for name, layer in merged.layers.items():
        dw_c, dw_s = (reference.dense(*load_lora(each).layers[name]) for each in (content, style))
        dw_s *= np.linalg.norm(dw_c) / np.linalg.norm(dw_s)
        wanted = dw_c + dw_s
        assert np.linalg.norm(reference.dense(*layer) - wanted) < 2e-3 * np.linalg.norm(wanted)
