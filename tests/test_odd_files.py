"""Foreign text, odd bytes and odd tensors: each is right, or spoken of in one line."""

import json
import os
import re
import resource
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import reference
import torch
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from safetensors import safe_open
from safetensors.numpy import save_file
from test_cli import run

from lorarar import Layer, Lora, LorararError, load_lora, merge, reduce_rank, save_lora
from lorarar.files import Deferred, dump_safetensors, write_safetensors
from lorarar.merge_files import merge_files
from lorarar.peft_config import PeftConfig
from lorarar.runtime.slots import scaled_factors

Q = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
KOHYA = "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q"
CONV = "unet.down_blocks.1.resnets.1.conv1"


def normal(*shape: int, dtype=np.float32, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.1).astype(dtype)


def pair(name: str = Q, rank: int = 4, width: int = 1280) -> dict[str, np.ndarray]:
    return {
        f"{name}.lora_A.weight": normal(rank, width),
        f"{name}.lora_B.weight": normal(width, rank),
    }


def kohya(**alpha) -> dict[str, np.ndarray]:
    up, down = normal(1280, 4), normal(4, 1280)
    tensors = {f"{KOHYA}.lora_down.weight": down, f"{KOHYA}.lora_up.weight": up}
    return tensors | {f"{KOHYA}.{part}": value for part, value in alpha.items()}


def written(path, tensors, **metadata):
    save_file(tensors, path, metadata or None)
    return path


def test_metadata_may_be_null(tmp_path):
    path = written(tmp_path / "x.safetensors", pair())
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = {"__metadata__": None} | json.loads(content[8 : 8 + size])
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + content[8 + size :])
    assert load_lora(path).metadata == {}


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_any_terminal_shows_any_text_and_is_not_steered_by_it(environment, tmp_path):
    path = written(
        tmp_path / "犬🐶\x1b[31m.safetensors", pair(), tags="犬 🐶", evil="\x1b]0;t\x07\n\u202e"
    )
    command = [sys.executable, "-m", "lorarar"]
    for arguments, code in ((["inspect", path], 0), (["inspect", f"{path}x"], 1)):
        done = subprocess.run(
            [*command, *arguments], capture_output=True, env=os.environ | environment
        )
        assert done.returncode == code, done.stderr
        said = done.stdout + done.stderr
        assert not {b"\x1b", b"\x07"} & {said[i : i + 1] for i in range(len(said))}
        assert b"\\x1b" in said and b"Traceback" not in said
    assert b"\\u202e" in subprocess.run([*command, "inspect", path], capture_output=True).stdout


def test_names_of_files_that_are_no_utf8_do_not_spoil_what_is_written(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    one = written(tmp_path / "x.safetensors", pair()).rename(tmp_path / f"{name}.safetensors")
    out = tmp_path / f"{name}-merged.safetensors"
    merge_files(one, one, out, method="direct")
    with safe_open(out, "np") as file:
        assert file.metadata()["lorarar.content"] == r"caf\udce9.safetensors"
    assert load_lora(out).layers.keys() == {Q}


def test_hashes_of_tensors_that_no_longer_are_do_not_stay(tmp_path):
    stale = {"sshs_model_hash": "a", "sshs_legacy_hash": "b", "modelspec.hash_sha256": "0xc"}
    path = written(tmp_path / "x.safetensors", kohya(alpha=np.array(2.0)), **stale, ss_tag="kept")
    for layout in ("diffusers", "kohya"):
        save_lora(load_lora(path), tmp_path / layout, layout)
        with safe_open(tmp_path / layout, "np") as file:
            assert not stale.keys() & file.metadata().keys() and file.metadata()["ss_tag"] == "kept"


@pytest.mark.parametrize("alpha", [np.nan, np.inf, [1.0, 2.0], [], True])
def test_an_alpha_that_is_no_number_names_the_file(alpha, tmp_path):
    path = written(tmp_path / "x.safetensors", kohya(alpha=np.array(alpha)))
    with pytest.raises(LorararError, match=r"x\.safetensors: layer '.*to_q' has an alpha that is"):
        load_lora(path)


def of_odd_length(content: bytes) -> bytes:
    """The same file with a header whose length is no multiple of 8."""
    size = 8 + int.from_bytes(content[:8], "little")
    return (size - 7).to_bytes(8, "little") + content[8:size] + b" " + content[size:]


@pytest.mark.parametrize(
    ("dtype", "bound"), [(np.float32, 1e-6), (np.float16, 1e-3), (ml_dtypes.bfloat16, 1e-2)]
)
def test_a_header_of_odd_length_is_read_alike(dtype, bound, tmp_path):
    up, down = normal(1280, 4, dtype=dtype), normal(4, 1280, dtype=dtype)
    path = tmp_path / "x.safetensors"
    save_lora(Lora({Q: Layer(up, down)}), path)
    path.write_bytes(of_odd_length(path.read_bytes()))
    lora = load_lora(path)
    found = reference.dense(*merge(lora, lora, "direct", content_scale=0.5).layers[Q])
    wanted = 1.5 * reference.dense(up, down)
    assert np.linalg.norm(found - wanted) < bound * np.linalg.norm(wanted)


def test_a_header_of_odd_length_costs_no_copy(tmp_path):
    """A sparse file of 1 GB."""
    rank = 1 << 18
    size = rank * 1280 * 2
    entries = {"A": ([rank, 1280], [0, size]), "B": ([1280, rank], [size, 2 * size])}
    header = {
        f"{Q}.lora_{part}.weight": {"dtype": "F16", "shape": shape, "data_offsets": offsets}
        for part, (shape, offsets) in entries.items()
    }
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8 + 1)
    with (tmp_path / "x.safetensors").open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(8 + len(encoded) + 2 * size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert load_lora(tmp_path / "x.safetensors").layers[Q].rank == rank
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_what_belongs_to_no_layer_is_left_out_with_a_line(tmp_path, monkeypatch, capsys):
    extra = {
        "bundle_emb.dog.clip_l": np.ones((1, 768), np.float32),
        "bundle_emb.dog.clip_g": np.ones((1, 1280), np.float32),
        "lora_te1_text_model_embeddings_position_ids": np.zeros((1, 77), np.int64),
        "lora_unet_middle_block_1_proj_in.lora_down.weight": np.zeros((0, 1280), np.float32),
        "lora_unet_middle_block_1_proj_in.lora_up.weight": np.zeros((1280, 0), np.float32),
        "lora_unet_middle_block_1_proj_out.alpha": np.array(1.0),
    }
    path = written(tmp_path / "x.safetensors", kohya() | extra)
    lora = load_lora(path)
    assert list(lora.layers) == [Q] and len(lora.notes) == 3
    assert run(monkeypatch, "inspect", path) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [re.search(r"left out (\d)", line)[1] for line in lines] == ["3", "1", "1"]
    out = tmp_path / "out.safetensors"
    assert run(monkeypatch, "merge", path, path, "-o", out, "--method", "direct") == 0
    assert len(capsys.readouterr().err.splitlines()) == 6


@pytest.mark.parametrize("part", ["lora_C.weight", "scaling", "base_layer.weight", "weight"])
def test_a_tensor_of_a_layer_that_is_not_understood_is_refused(part, tmp_path):
    path = written(tmp_path / "x.safetensors", pair() | {f"{Q}.{part}": normal(4, 4)})
    with pytest.raises(LorararError, match=rf"tensor '{Q}\.{part}' belongs to no plain LoRA"):
        load_lora(path)


@pytest.mark.parametrize("name", ["pytorch_lora_weights.bin", "x.pt", "x.safetensors"])
def test_pickles_are_refused_as_what_they_are(name, tmp_path):
    torch.save({"x": torch.ones(2)}, tmp_path / name)
    for path in (tmp_path / name, tmp_path):
        if path.is_dir() and not name.startswith("pytorch"):
            continue
        with pytest.raises(LorararError, match=rf"{name}: .*pickle.*weights_only=True.*save_file"):
            load_lora(path)


def adapter(folder, name: str = f"base_model.model.{Q[5:]}", **options):
    folder.mkdir(parents=True, exist_ok=True)
    save_file(pair(name), folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 16, "target_modules": ["to_q"]}
    (folder / "adapter_config.json").write_text(json.dumps(config | options))
    return folder


def test_a_weights_file_beside_its_configuration_is_that_adapter(tmp_path):
    adapter(tmp_path)
    for path in (tmp_path, tmp_path / "adapter_model.safetensors"):
        assert load_lora(path).layers[Q].scale == 4
    (tmp_path / "adapter_config.json").unlink()
    assert load_lora(tmp_path / "adapter_model.safetensors").layers[Q].scale == 1


def test_folders_of_diffusers_and_of_peft_s_dreambooth(tmp_path):
    (tmp_path / "diffusers").mkdir()
    written(tmp_path / "diffusers" / "pytorch_lora_weights.safetensors", pair())
    assert list(load_lora(tmp_path / "diffusers").layers) == [Q]
    adapter(tmp_path / "dreambooth" / "unet")
    text = "text_model.encoder.layers.0.self_attn.q_proj"
    folder = adapter(tmp_path / "dreambooth" / "text_encoder", lora_alpha=2)
    save_file(pair(f"base_model.model.{text}", width=768), folder / "adapter_model.safetensors")
    found = load_lora(tmp_path / "dreambooth").layers
    assert {name: layer.scale for name, layer in found.items()} == {
        Q: 4,
        f"text_encoder.{text}": 0.5,
    }


def test_text_encoders_alone_come_back_from_a_peft_folder(tmp_path):
    layers = {
        f"text_encoder{which}.text_model.encoder.layers.1.mlp.fc1": Layer(
            normal(4 * width, 2), normal(2, width)
        )
        for which, width in (("", 768), ("_2", 1280))
    }
    save_lora(Lora(layers), tmp_path / "peft", "peft")
    assert load_lora(tmp_path / "peft").layers.keys() == layers.keys()
    assert load_lora(tmp_path / "peft" / "text_encoder_2").layers.keys() == {list(layers)[1]}


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora", "OLoRA", "corda", "loftq"])
def test_starts_that_change_the_base_are_refused_by_name(start, tmp_path):
    with pytest.raises(LorararError, match=rf"adapter_config\.json: its start '{start}' changed"):
        load_lora(adapter(tmp_path / "peft", init_lora_weights=start))
    metadata = {"lora_adapter_metadata": json.dumps({"unet.init_lora_weights": start})}
    path = written(tmp_path / "x.safetensors", pair(), **metadata)
    with pytest.raises(LorararError, match=rf"x\.safetensors.*start '{start}' changed"):
        load_lora(path)


@pytest.mark.parametrize(
    ("option", "value", "line"),
    [
        ("peft_type", "IA3", "IA3"),
        ("lora_alpha", "many", "no usable alpha"),
        ("lora_alpha", None, "no usable alpha"),
        ("alpha_pattern", {"to_q": []}, "alpha of 'to_q'"),
        ("alpha_pattern", {"(a+)+b": 1}, "too wild"),
        ("alpha_pattern", {".*.*.*b": 1}, "too wild"),
        ("alpha_pattern", {"[": 1}, "too wild"),
        ("alpha_pattern", [1], "alpha_pattern"),
        ("r", float("inf"), "no usable r"),
    ],
)
def test_configurations_that_cannot_be_used_are_refused(option, value, line, tmp_path):
    with pytest.raises(LorararError, match=rf"adapter_config\.json.*{line}"):
        load_lora(adapter(tmp_path / "peft", **{option: value}))


@pytest.mark.parametrize(
    "patterns",
    [
        {"to_q": 1, "attn1.to_q": 2},
        {"attn1.to_q": 2, "to_q": 1},
        {"o_q": 3},
        {r"attn\d\.to_[qk]": 3, "to_q": 5},
        {"^mid_block.*to_q": 3},
        {"^to_q": 3},
        {"mid_block.*": 7},
        {Q.removeprefix("unet."): 9},
    ],
)
def test_patterns_match_as_peft_s(patterns):
    config = PeftConfig.read({"lora_alpha": 16, "alpha_pattern": patterns}, "x")
    for module in (Q.removeprefix("unet."), "down_blocks.1.attentions.0.proj_in"):
        alpha = patterns.get(
            get_pattern_key(patterns, module), LoraConfig(lora_alpha=16).lora_alpha
        )
        assert config.scale(module, 4) == alpha / 4


@pytest.mark.parametrize("rank", [1, 4, 64])
@pytest.mark.parametrize(
    ("up_dtype", "down_dtype"),
    [
        (np.float32, np.float16),
        (np.float16, np.float32),
        (ml_dtypes.bfloat16, np.float16),
        (ml_dtypes.float8_e4m3fn, np.float16),
        (ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn),
    ],
)
@pytest.mark.parametrize("layout", ["diffusers", "kohya", "peft"])
def test_factors_of_two_dtypes_are_read_and_written_as_one(
    rank, up_dtype, down_dtype, layout, tmp_path
):
    up, down = normal(1280, rank, dtype=up_dtype), normal(rank, 1280, dtype=down_dtype)
    write_safetensors(
        tmp_path / "x.safetensors", {f"{Q}.lora_A.weight": down, f"{Q}.lora_B.weight": up}, {}
    )
    lora = load_lora(tmp_path / "x.safetensors")
    save_lora(merge(lora, lora, "direct"), tmp_path / "out", layout)
    found = reference.dense(*load_lora(tmp_path / "out").layers[Q])
    wanted = 2 * reference.dense(up, down)
    assert np.linalg.norm(found - wanted) < 1e-6 * np.linalg.norm(wanted)


def test_an_array_that_does_not_fill_its_place_is_not_written(tmp_path):
    wrong = Deferred((2, 3), np.dtype(np.float32), lambda: np.ones((2, 3), np.float16))
    with (tmp_path / "x").open("wb") as file, pytest.raises(LorararError, match="came out as"):
        dump_safetensors(file, {"x": wrong}, {})


@pytest.mark.parametrize("method", ["direct", "linear", "svd", "ties"])
def test_float16_beside_bfloat16_merges_by_every_method(method):
    one, other = (
        Lora({Q: Layer(normal(64, 2, dtype=d), normal(2, 48, dtype=d))})
        for d in (np.float16, ml_dtypes.bfloat16)
    )
    for both in ((one, other), (other, one)):
        merged = merge(*both, method).layers[Q]
        assert np.asarray(merged.up).dtype == both[0].layers[Q].up.dtype


@pytest.mark.parametrize("spread", [1e-2, 1e-3, 2e-4, 5e-5])
@pytest.mark.parametrize(("rank", "alpha"), [(128, 1), (64, 3), (32, 16)])
def test_small_alphas_lose_no_digits_of_float16(rank, alpha, spread, tmp_path):
    generator = np.random.default_rng(0)
    down = (generator.uniform(-1, 1, (rank, 1280)) * 1280**-0.5).astype(np.float16)
    up = (generator.standard_normal((1280, rank)) * spread).astype(np.float16)
    tensors = {f"{KOHYA}.lora_down.weight": down, f"{KOHYA}.lora_up.weight": up}
    path = written(tmp_path / "x.safetensors", tensors | {f"{KOHYA}.alpha": np.array(float(alpha))})
    wanted = alpha / rank * (up.astype(np.float64) @ down.astype(np.float64))
    lora = load_lora(path)
    for layout in ("diffusers", "kohya", "peft"):
        save_lora(lora, tmp_path / layout, layout)
        merged = merge(lora, load_lora(tmp_path / layout), "direct", content_scale=0.3)
        for found, times in ((load_lora(tmp_path / layout), 1), (merged, 1.3)):
            error = reference.dense(*found.layers[Q]) - times * wanted
            assert np.linalg.norm(error) < 5e-4 * times * np.linalg.norm(wanted)


def test_small_alphas_lose_no_digits_on_a_device_in_float16():
    up, down = normal(1280, 128, dtype=np.float16), normal(128, 1280, dtype=np.float16)
    layer = Layer((up / 100).astype(np.float16), down, 1 / 128)
    found = [np.asarray(x).astype(np.float16) for x in scaled_factors(layer, np.dtype(np.float16))]
    error = reference.dense(*found) - reference.dense(*layer)
    assert np.linalg.norm(error) < 5e-4 * np.linalg.norm(reference.dense(*layer))


@pytest.mark.parametrize("as_convolution", ["linear", "kernel in down", "kernel in up", "flat"])
def test_weights_kept_in_other_axes_are_what_they_do(as_convolution, tmp_path):
    layer, generator = (Q if as_convolution == "linear" else CONV), np.random.default_rng(0)
    shapes = {
        "linear": ((1280, 4, 1, 1), (4, 1280, 1, 1)),
        "kernel in down": ((640, 4, 1, 1), (4, 640, 3, 3)),
        "kernel in up": ((640, 4, 3, 3), (4, 640, 1, 1)),
        "flat": ((640, 4), (4, 640 * 9)),
    }
    up, down = (generator.standard_normal(s).astype(np.float32) for s in shapes[as_convolution])
    path = written(
        tmp_path / "x.safetensors", {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}
    )
    image = torch.from_numpy(generator.standard_normal((1, down.shape[1], 6, 6)).astype(np.float32))
    if as_convolution == "flat":
        down = down.reshape(4, 640, 3, 3)
        up, image = up.reshape(640, 4, 1, 1), image[:, :640]
    inside = torch.conv2d(image, torch.from_numpy(down))
    wanted = torch.conv2d(inside, torch.from_numpy(up)).numpy()
    lora = load_lora(path)
    for found in (lora, reduce_rank(lora, 36)[0], merge(lora, Lora({}), "svd")):
        dense = reference.dense(*found.layers[layer]).astype(np.float32)
        dense = torch.from_numpy(dense.reshape(*dense.shape, *[1, 1][: 4 - dense.ndim]))
        got = torch.conv2d(image, dense).numpy()
        assert np.linalg.norm(got - wanted) < 1e-5 * np.linalg.norm(wanted)


@pytest.mark.parametrize(
    ("up", "down"),
    [
        ((640, 4, 2, 2), (4, 1440, 1, 1)),
        ((640, 4, 3, 1), (4, 1920, 1, 1)),
        ((640, 4), (4, 1920, 3, 1)),
    ],
)
def test_axes_that_only_multiply_to_the_right_size_are_refused(up, down, tmp_path):
    tensors = {f"{CONV}.lora_A.weight": normal(*down), f"{CONV}.lora_B.weight": normal(*up)}
    with pytest.raises(LorararError, match=r"conv1' has up .* make no \(640, 640, 3, 3\)"):
        load_lora(written(tmp_path / "x.safetensors", tensors))


def test_what_reads_a_file_is_told(tmp_path, monkeypatch, capsys):
    told = {
        "kohya": "ComfyUI, A1111, sd-scripts",
        "diffusers": "but for 1 attention layers",
        "peft": "lorarar, PEFT; for others: lorarar convert --format kohya",
    }
    lora = Lora({Q: Layer(normal(1280, 2), normal(2, 1280))})
    for layout, line in told.items():
        save_lora(lora, tmp_path / layout, layout)
        assert run(monkeypatch, "inspect", tmp_path / layout) == 0
        assert line in capsys.readouterr().out


def test_kohya_is_the_usual_format_of_sdxl_s_files(tmp_path, monkeypatch):
    path = written(tmp_path / "x.safetensors", pair())
    for output, form in ((tmp_path / "y.safetensors", KOHYA), (tmp_path / "folder", Q)):
        assert run(monkeypatch, "convert", path, "-o", output) == 0
        with safe_open(output, "np") as file:
            assert all(name.startswith(form) for name in file.keys())  # noqa: SIM118


def test_several_adapters_in_one_file_are_named(tmp_path):
    other = {name.replace(".weight", ".cat.weight"): tensor for name, tensor in pair().items()}
    with pytest.raises(LorararError, match="several adapters in one file"):
        load_lora(written(tmp_path / "x.safetensors", pair() | other))
    twice = pair() | kohya()
    with pytest.raises(LorararError, match=f"name the same layer '{Q}'"):
        load_lora(written(tmp_path / "x.safetensors", twice))
