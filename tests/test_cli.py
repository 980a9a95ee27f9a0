import hashlib
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
import reference
import torch

from lorarar import Hypernet, load_hypernet, load_lora, merge, save_hypernet, save_lora
from lorarar.cli import app, merging
from lorarar.hypernet import to_tensors
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


def dense(path, name: str) -> np.ndarray:
    return reference.dense(*load_lora(path).layers[name])


def test_merge_writes_the_merge_and_records_what_went_in_by_hash(files, tmp_path, monkeypatch):
    content, style, hypernet = files
    out = tmp_path / "out.safetensors"
    assert run(monkeypatch, "merge", content, style, "-o", out, "--hypernet", hypernet) == 0
    merged = load_lora(out)
    assert {layer.rank for layer in merged.layers.values()} == {5}
    for role, file in (("content", content), ("style", style), ("hypernet", hypernet)):
        wanted = hashlib.sha256(file.read_bytes()).hexdigest()
        assert merged.metadata[f"lorarar.{role}.sha256"] == wanted
    name = next(iter(merged.layers))
    pair = load_lora(content), load_lora(style)
    wanted_dw = reference.dense(*merge(*pair, hypernet=load_hypernet(hypernet)).layers[name])
    assert np.array_equal(dense(out, name), wanted_dw)


def test_scales_rank_and_format_reach_the_file(files, tmp_path, monkeypatch, capsys):
    content, style, _ = files
    plain = ("merge", content, style, "--method", "direct", "-o")
    assert (
        run(monkeypatch, *plain, tmp_path / "half", "--content-scale", 0.5, "--style-scale", 0) == 0
    )
    name = next(iter(load_lora(content).layers))
    wanted = 0.5 * dense(content, name)
    assert np.linalg.norm(dense(tmp_path / "half", name) - wanted) < 1e-3 * np.linalg.norm(wanted)
    assert run(monkeypatch, *plain, tmp_path / "k", "--format", "kohya", "--rank", 4) == 0
    assert "rank 4: relative error" in capsys.readouterr().out
    merged = load_lora(tmp_path / "k")
    assert {layer.rank for layer in merged.layers.values()} == {4}
    assert merged.metadata["ss_network_dim"] == "4"


def test_merging_prepared_files_gives_the_same_merge(files, tmp_path, monkeypatch):
    content, style, hypernet = files
    prepared = []
    for role, file in (("content", content), ("style", style)):
        prepared.append(tmp_path / f"{role}.prepared.safetensors")
        arguments = ("prepare", file, "-o", prepared[-1], "--hypernet", hypernet, "--role", role)
        assert run(monkeypatch, *arguments) == 0
    for pair, out in (((content, style), "a"), (prepared, "b")):
        assert run(monkeypatch, "merge", *pair, "-o", tmp_path / out, "--hypernet", hypernet) == 0
    for name in list(load_lora(tmp_path / "a").layers)[::30]:
        wanted = dense(tmp_path / "a", name)
        assert np.linalg.norm(dense(tmp_path / "b", name) - wanted) < 1e-2 * np.linalg.norm(wanted)


def test_convert_keeps_every_weight(files, tmp_path, monkeypatch):
    for layout in ("kohya", "peft", "diffusers"):
        out = tmp_path / layout
        assert run(monkeypatch, "convert", files[0], "-o", out, "--format", layout) == 0
        before, after = load_lora(files[0]), load_lora(out)
        assert before.layers.keys() == after.layers.keys()
        assert all(np.array_equal(before.layers[n].up, after.layers[n].up) for n in before.layers)


def test_inspect_tells_base_layers_ranks_dtype_and_metadata(files, monkeypatch, capsys):
    assert run(monkeypatch, "inspect", files[0], "--layers") == 0
    shown = capsys.readouterr().out
    for fact in ("koala-700m", "attention (168 layers)", "float16", "lorarar.standin", "|dW|"):
        assert fact in shown


def test_the_norm_shown_is_that_of_the_dense_difference():
    from lorarar.summary import norm

    for layer in standin_lora("koala-700m", 3, seed=0).layers.values():
        assert abs(norm(layer) - np.linalg.norm(reference.dense(*layer))) < 1e-4
        break


def test_coefficients_are_shown_and_plotted(files, tmp_path, monkeypatch, capsys):
    content, style, hypernet = files
    arguments = ("coefficients", content, style, "--hypernet", hypernet)
    assert run(monkeypatch, *arguments) == 0
    assert "mean m_c" in capsys.readouterr().out
    assert run(monkeypatch, *arguments, "--plot", tmp_path / "m.png") == 0
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    assert run(monkeypatch, *arguments, "--plot", tmp_path / "m.png") == 1
    assert "--force" in capsys.readouterr().err


def test_bad_input_is_one_line_and_leaves_nothing(files, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.safetensors"
    assert run(monkeypatch, "merge", files[0], tmp_path / "no.safetensors", "-o", out) == 1
    error = capsys.readouterr().err
    assert "no.safetensors" in error and error.count("\n") == 1
    assert not out.exists()
    assert run(monkeypatch, "merge", files[0], files[1], "-o", out) == 1
    error = capsys.readouterr().err
    assert "--hypernet" in error and "koala-700m" in error and "train" in error
    assert run(monkeypatch, "merge", *files[:2], "-o", files[0], "--method", "direct") == 1
    assert "--force" in capsys.readouterr().err


def test_merging_canonical_files_imports_no_torch(files, tmp_path):
    content, style, hypernet = files
    code = f"""
import sys
sys.argv = ["lorarar", "merge", {str(content)!r}, {str(style)!r}, "-o",
            {str(tmp_path / "o")!r}, "--hypernet", {str(hypernet)!r}]
from lorarar.cli import cli
cli(standalone_mode=False)
heavy = {{"torch", "diffusers", "peft", "transformers"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "o").exists()


def test_a_full_gpu_ends_in_one_line_and_other_errors_as_they_are(monkeypatch, capsys):
    inspect = ("inspect", "lora.safetensors")

    def fail(error):
        def load(path):
            raise error

        monkeypatch.setattr(merging, "load_lora", load)

    fail(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee also"))
    assert run(monkeypatch, *inspect) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "Tried to allocate 2 GiB" in line and "--precision bf16" in line
    fail(RuntimeError("a mistake of ours"))
    with pytest.raises(RuntimeError, match="of ours"):
        app()


def test_a_published_checkpoint_becomes_safetensors_that_need_no_torch(
    files, tmp_path, monkeypatch
):
    hypernet = load_hypernet(files[2])
    published = tmp_path / "hypernet.pth"
    state = {name: torch.from_numpy(weight) for name, weight in to_tensors(hypernet).items()}
    torch.save(state, published)
    out = tmp_path / "hypernet.safetensors"
    assert run(monkeypatch, "convert-hypernet", published, "-o", out) == 0
    assert load_hypernet(out).fingerprint == hypernet.fingerprint
    code = "import sys; from lorarar import load_hypernet; load_hypernet(sys.argv[1])"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, out]).returncode == 0
    assert run(monkeypatch, "convert-hypernet", published, "-o", out) == 1  # it exists


def test_the_version_is_the_packages(capsys, monkeypatch):
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"lorarar {version('lorarar')}\n"
