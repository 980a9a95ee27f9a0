import hashlib
import sys

import pytest
import torch

from lorarar import Hypernet, load_lora, save_lora
from lorarar.cli import app
from lorarar.hypernet import save_hypernet
from lorarar.standin import standin_lora


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["lorarar", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        app()
    return stopped.value.code or 0


@pytest.fixture
def files(tmp_path):
    content, style, hypernet = (tmp_path / f"{name}.safetensors" for name in "csh")
    save_lora(standin_lora("koala-700m", 2, seed=1), content)
    save_lora(standin_lora("koala-700m", 3, seed=2), style)
    save_hypernet(Hypernet.random(), hypernet)
    return content, style, hypernet


def test_merge_records_what_was_merged_by_hash(files, tmp_path, monkeypatch):
    content, style, hypernet = files
    out = tmp_path / "out.safetensors"
    assert run(monkeypatch, "merge", content, style, "-o", out, "--hypernet", hypernet) == 0
    merged = load_lora(out)
    assert {layer.rank for layer in merged.layers.values()} == {5}
    for role, file in (("content", content), ("style", style), ("hypernet", hypernet)):
        wanted = hashlib.sha256(file.read_bytes()).hexdigest()
        assert merged.metadata[f"lorarar.{role}.sha256"] == wanted


def test_convert_keeps_every_weight(files, tmp_path, monkeypatch):
    assert run(monkeypatch, "convert", files[0], "-o", tmp_path / "out.safetensors") == 0
    before, after = load_lora(files[0]), load_lora(tmp_path / "out.safetensors")
    assert before.layers.keys() == after.layers.keys()
    assert all(torch.equal(before.layers[n].up, after.layers[n].up) for n in before.layers)


def test_bad_input_is_one_line_and_leaves_nothing(files, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.safetensors"
    assert run(monkeypatch, "merge", files[0], tmp_path / "no.safetensors", "-o", out) == 1
    error = capsys.readouterr().err
    assert "no.safetensors" in error and error.count("\n") == 1
    assert not out.exists()
    assert run(monkeypatch, "merge", files[0], files[1], "-o", out) == 1
    assert "--hypernet" in capsys.readouterr().err
