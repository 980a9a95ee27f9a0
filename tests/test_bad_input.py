"""Each kind of bad input is one line that names file, tensor and remedy, and leaves nothing."""

import errno
import json
import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lorarar import Hypernet, LorararError, load_hypernet, load_lora, save_hypernet, save_lora
from lorarar.merge_files import merge_files
from lorarar.standin import standin_lora

Q = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def line_of(error: pytest.ExceptionInfo) -> str:
    line = str(error.value)
    assert "\n" not in line
    return line


def refused(path, match: str) -> str:
    with pytest.raises(LorararError, match=match) as error:
        load_lora(path)
    line = line_of(error)
    assert str(path.name) in line
    return line


def write_pair(path, up: tuple, down: tuple, name: str = Q, **tensors):
    pair = {f"{name}.lora_A.weight": torch.ones(down), f"{name}.lora_B.weight": torch.ones(up)}
    save_file(pair | tensors, path)
    return path


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_and_empty_files(tmp_path, keep):
    path = tmp_path / "cut.safetensors"
    save_lora(standin_lora("koala-700m", 1, seed=0), path)
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "get it again")


def test_missing_files_and_folders_that_are_no_lora(tmp_path):
    refused(tmp_path / "no.safetensors", "does not exist")
    refused(tmp_path, "adapter_config.json")
    (tmp_path / "adapter_config.json").write_text("{")
    refused(tmp_path, "adapter_config.json")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(LorararError, match=r"adapter_model\.safetensors: does not exist"):
        load_lora(tmp_path)


def test_files_that_are_no_safetensors(tmp_path):
    path = tmp_path / "a.safetensors"
    torch.save({"x": torch.ones(2)}, path)
    refused(path, "not a valid safetensors file")
    path.write_text("hello, this is no model at all")
    refused(path, "not a valid safetensors file")
    save_file({"model.diffusion_model.weight": torch.ones(2)}, path)
    refused(path, "belongs to no plain LoRA")
    save_file({}, path)
    refused(path, "no LoRA layers")


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,9999999]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"a":"b"}',
        b'{"a":["F32",[1],[0,4]]}',
        b"[]",
        b"[" * 50_000,
        b'{"__metadata__":{"lora_adapter_metadata":7}}',
    ],
)
def test_hostile_headers(tmp_path, header):
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    refused(path, "not a valid safetensors file|no LoRA|no plain LoRA")
    path.write_bytes((1 << 62).to_bytes(8, "little") + header)
    refused(path, "not a valid safetensors file")


@pytest.mark.parametrize("value", ["7", "[]", "{", '{"unet.lora_alpha": "many"}'])
def test_malformed_metadata(tmp_path, value):
    path = tmp_path / "a.safetensors"
    pair = {f"{Q}.lora_A.weight": torch.ones(1, 1280), f"{Q}.lora_B.weight": torch.ones(1280, 1)}
    save_file(pair, path, {"lora_adapter_metadata": value})
    refused(path, "lora_adapter_metadata")
    save_file(pair, path, {"lorarar.prepared": value})
    refused(path, r"lorarar\.prepared")


@pytest.mark.parametrize(
    ("up", "down", "line"),
    [
        ((1280, 4), (3, 1280), "swapped up and down"),
        ((4, 1280), (1280, 4), "swapped|another base"),
        ((320, 4), (4, 320), "320x320.*1280x1280.*another base"),
        ((1280,), (4, 1280), "swapped up and down"),
        ((1280, 0), (0, 1280), "are 0"),
    ],
)
def test_wrong_shapes_name_file_and_layer(tmp_path, up, down, line):
    assert Q in refused(write_pair(tmp_path / "bad.safetensors", up, down), line)


def test_a_down_without_its_up_and_weights_that_are_integers(tmp_path):
    path = tmp_path / "half.safetensors"
    save_file({f"{Q}.lora_A.weight": torch.ones(4, 1280)}, path)
    refused(path, "lora_B")
    save_file({f"{Q}.lora_B.weight": torch.ones(4, 1280)}, path)
    refused(path, "lora_A")
    whole = {
        f"{Q}.lora_A.weight": torch.ones(4, 1280, dtype=torch.int8),
        f"{Q}.lora_B.weight": torch.ones(1280, 4, dtype=torch.int8),
    }
    save_file(whole, path)
    refused(path, "int8 weights")
    header = f'{{"{Q}.lora_A.weight":{{"dtype":"F4","shape":[2,4],"data_offsets":[0,4]}}}}'.encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    refused(path, "dtype F4")


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (f"{Q}.lora_magnitude_vector", "DoRA"),
        ("lora_unet_x.dora_scale", "DoRA"),
        ("lora_unet_x.hada_w1_a", "LoHa"),
        ("lora_unet_x.lokr_w1", "LoKr"),
        ("lora_unet_x.lora_mid.weight", "Tucker"),
        ("lora_unet_x.oft_blocks", "OFT"),
        ("lora_unet_x.diff", "full difference"),
        ("lora_unet_x.on_input", "IA3"),
    ],
)
def test_what_is_no_plain_lora_is_refused_by_name(tmp_path, tensor, kind):
    path = write_pair(tmp_path / "x.safetensors", (1280, 2), (2, 1280), **{tensor: torch.ones(2)})
    assert tensor in refused(path, kind)


def test_a_peft_dora_is_refused_by_name(tmp_path):
    name = f"base_model.model.{Q.removeprefix('unet.')}"
    write_pair(tmp_path / "adapter_model.safetensors", (1280, 2), (2, 1280), name)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"use_dora": True}))
    refused(tmp_path, "DoRA")


@pytest.mark.parametrize(
    "name",
    [
        "transformer.single_transformer_blocks.0.attn.to_q",  # Flux, diffusers
        "lora_unet_double_blocks_0_img_attn_qkv",  # Flux, kohya
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",  # SD 1.5
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
        "text_model.encoder.layers.0.self_attn.q_proj",
    ],
)
def test_loras_of_other_bases(tmp_path, name):
    parts = ("lora_down", "lora_up") if name.startswith("lora_") else ("lora_A", "lora_B")
    path = tmp_path / "other.safetensors"
    save_file(
        {f"{name}.{parts[0]}.weight": torch.ones(4, 320)}
        | {f"{name}.{parts[1]}.weight": torch.ones(320, 4)},
        path,
    )
    refused(path, "another base|SDXL")


def test_pairs_of_different_bases_are_refused(tmp_path):
    sdxl = write_pair(tmp_path / "a.safetensors", (1280, 4), (4, 1280))
    other = write_pair(tmp_path / "b.safetensors", (640, 4), (4, 640))
    refused(other, "another base")
    net = tmp_path / "h.safetensors"
    save_hypernet(Hypernet.random((64,), hidden=4), net)
    with pytest.raises(LorararError, match=r"h\.safetensors.*1280.*\[64\]") as error:
        merge_files(sdxl, sdxl, tmp_path / "out.safetensors", hypernet=net)
    line_of(error)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", ["lorarar", "direct", "linear", "svd", "ties"])
def test_nan_and_infinite_weights_stop_every_method(tmp_path, value, method):
    good = write_pair(tmp_path / "good.safetensors", (1280, 4), (4, 1280))
    down = torch.ones(4, 1280)
    down[2, 5] = value
    bad = tmp_path / "bad.safetensors"
    save_file({f"{Q}.lora_A.weight": down, f"{Q}.lora_B.weight": torch.ones(1280, 4)}, bad)
    net = tmp_path / "h.safetensors"
    save_hypernet(Hypernet.random(), net)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(LorararError, match=r"bad\.safetensors.*to_q.*NaN or infinite") as error:
        merge_files(good, bad, tmp_path / "out.safetensors", hypernet=net, method=method)
    line_of(error)
    assert sorted(tmp_path.iterdir()) == before


class Payload:
    def __reduce__(self):
        return (print, ("code from the file ran",))


def test_a_pickle_with_code_is_refused_unrun(tmp_path, capsys):
    torch.save(Payload(), tmp_path / "evil.pth")
    with pytest.raises(LorararError, match=r"evil\.pth.*not a plain weights file") as error:
        load_hypernet(tmp_path / "evil.pth")
    line_of(error)
    assert "ran" not in capsys.readouterr().out


def test_files_that_are_no_hypernetwork(tmp_path):
    path = write_pair(tmp_path / "lora.safetensors", (1280, 4), (4, 1280))
    with pytest.raises(LorararError, match=r"lora\.safetensors: no hypernetwork"):
        load_hypernet(path)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(LorararError, match=r"list\.pth"):
        load_hypernet(tmp_path / "list.pth")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(LorararError, match=r"cut\.pth"):
        load_hypernet(tmp_path / "cut.pth")
    hypernet = Hypernet.random((64,), hidden=4)
    hypernet.output[1][0] = np.nan
    save_hypernet(hypernet, tmp_path / "nan.safetensors")
    with pytest.raises(LorararError, match=r"nan\.safetensors.*NaN"):
        load_hypernet(tmp_path / "nan.safetensors")


def test_an_existing_output_is_kept_and_nothing_partial_left(tmp_path):
    path = tmp_path / "out.safetensors"
    path.write_bytes(b"mine")
    with pytest.raises(LorararError, match="--force"):
        save_lora(standin_lora("koala-700m", 1, seed=0), path)
    assert path.read_bytes() == b"mine"
    save_lora(standin_lora("koala-700m", 1, seed=0), path, force=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.safetensors"]


def test_an_output_that_cannot_be_written(tmp_path):
    lora = standin_lora("koala-700m", 1, seed=0)
    for layout in ("diffusers", "peft"):
        with pytest.raises(LorararError, match="cannot be written") as error:
            save_lora(lora, tmp_path / "no" / "out.safetensors", layout)
        line_of(error)
    with pytest.raises(LorararError, match="layout 'zip'"):
        save_lora(lora, tmp_path / "out", "zip")


@pytest.mark.parametrize("layout", ["diffusers", "peft"])
def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch, layout):
    path = tmp_path / "out"
    save_lora(standin_lora("koala-700m", 1, seed=0), path, layout)
    files = [path] if path.is_file() else sorted(path.iterdir())
    before = [file.read_bytes() for file in files]

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("lorarar.files._computed_ahead", full)
    with pytest.raises(LorararError, match="No space left") as error:
        save_lora(standin_lora("koala-700m", 1, seed=1), path, layout, force=True)
    line_of(error)
    assert [file.read_bytes() for file in files] == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.fixture(scope="module")
def valid_file(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("fuzz") / "valid.safetensors"
    lora = standin_lora("koala-700m", 1, seed=0)
    lora.layers = dict(list(lora.layers.items())[:4])
    save_lora(lora, path)
    return path.read_bytes()


@settings(
    max_examples=400,
    deadline=2000,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_mutated_headers_load_or_are_refused(tmp_path, valid_file, data):
    """Never a crash, a hang or another exception, whatever bytes of the header change."""
    size = 8 + int.from_bytes(valid_file[:8], "little")
    content = bytearray(valid_file)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, size - 1))
        insert = data.draw(st.sampled_from([b"", b"9", b"-", b'"', b"{", b"null", b"\xff", b"0"]))
        content[at : at + data.draw(st.integers(0, 3))] = insert
    if data.draw(st.booleans()):
        content[:8] = (size - 8 + len(content) - len(valid_file)).to_bytes(8, "little")
    path = tmp_path / "fuzzed.safetensors"
    path.write_bytes(content)
    try:
        lora = load_lora(path)
    except LorararError as error:
        assert "fuzzed.safetensors" in str(error)
    else:
        assert all(layer.rank < 10**4 for layer in lora.layers.values())


KOHYA = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
NAMES = {
    "kohya": (f"{KOHYA}.lora_down.weight", f"{KOHYA}.lora_up.weight", f"{KOHYA}.alpha"),
    "peft": (f"base_model.model.{Q[5:]}.lora_A.weight", f"base_model.model.{Q[5:]}.lora_B.weight"),
    "old": (f"{Q[:-5]}.processor.to_q_lora.down.weight", f"{Q[:-5]}.processor.to_q_lora.up.weight"),
}


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_mutated_names_of_each_convention_load_or_are_refused(tmp_path, data):
    names = list(NAMES[data.draw(st.sampled_from(sorted(NAMES)))])
    for _ in range(data.draw(st.integers(1, 3))):
        which = data.draw(st.integers(0, len(names) - 1))
        at = data.draw(st.integers(0, len(names[which])))
        insert = data.draw(
            st.sampled_from(["", "_", ".", "9", "lora_", "unet.", "blocks", ".alpha"])
        )
        names[which] = (
            names[which][:at] + insert + names[which][at + data.draw(st.integers(0, 4)) :]
        )
    shapes = [(2, 640), (640, 2), ()]
    tensors = {name: torch.ones(shape) for name, shape in zip(names, shapes, strict=False)}
    save_file(tensors, tmp_path / "fuzzed.safetensors")
    try:
        assert load_lora(tmp_path / "fuzzed.safetensors").layers
    except LorararError as error:
        assert "fuzzed.safetensors" in str(error)
