import json
import subprocess
import sys
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
import reference
import torch
from diffusers.utils import convert_state_dict_to_kohya
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from lorarar import (
    Hypernet,
    Layer,
    LorararError,
    coefficients,
    load_hypernet,
    load_lora,
    prepare,
    save_hypernet,
    save_lora,
)
from lorarar.bases import BASES, SHAPES, base_of, unet_config
from lorarar.files import read_safetensors, write_safetensors
from lorarar.standin import standin_lora

BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
KOHYA = "lora_unet_input_blocks_4_1_transformer_blocks_0"


def test_shapes_count_the_published_projections():
    assert {name: len(SHAPES[name]) for name in BASES} == {
        "sdxl": 560,
        "ssd-1b": 272,
        "vega": 120,
        "koala-1b": 240,
        "koala-700m": 168,
        "mini": 56,
    }
    shapes = list(SHAPES["sdxl"].values())
    wanted = {(1280, 1280): 360, (1280, 2048): 120, (640, 640): 60, (640, 2048): 20}
    assert {shape: shapes.count(shape) for shape in wanted} == wanted


MILLIONS = {
    "sdxl": 2567,
    "ssd-1b": 1331,
    "vega": 745,
    "koala-1b": 1161,
    "koala-700m": 783,
    "mini": 7,
}


@pytest.mark.parametrize("base", BASES)
def test_shapes_are_those_of_the_diffusers_unet(base):
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config(BASES[base]))
    found = {
        name.removesuffix(".weight"): tuple(weight.shape)
        for name, weight in unet.named_parameters()
        if ".attn" in name and name.endswith(".weight")
    }
    assert found == SHAPES[base]
    assert round(unet.num_parameters() / 1e6) == MILLIONS[base]


def test_the_base_is_the_smallest_that_fits():
    for base, shapes in SHAPES.items():
        assert base_of(shapes) == base
    assert base_of({"mid_block.attentions.0.transformer_blocks.9.attn1.to_q": (1280, 1280)})
    assert (
        base_of({"down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": (320, 320)}) is None
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_save_and_load_give_the_same_layers(dtype, tmp_path):
    lora = standin_lora("koala-700m", 2, seed=0, dtype=dtype)
    save_lora(lora, tmp_path / "a.safetensors")
    again = load_lora(tmp_path / "a.safetensors")
    assert again.metadata.items() >= lora.metadata.items()
    assert again.layers.keys() == lora.layers.keys()
    for name, layer in lora.layers.items():
        for one, other in zip(layer[:2], again.layers[name][:2], strict=True):
            assert one.dtype == other.dtype and one.tobytes() == other.tobytes()
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        name = next(iter(lora.layers))
        theirs = file.get_tensor(f"{name}.lora_A.weight").float().numpy()
    assert np.array_equal(theirs, lora.layers[name].down.astype(np.float32))


def test_bytes_written_are_the_same_each_time(tmp_path):
    for name in ("one", "two"):
        save_lora(standin_lora("koala-700m", 1, seed=4), tmp_path / f"{name}.safetensors")
    one, two = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("one", "two"))
    assert one.replace(b'"one"', b'"two"') == two


def kohya_tensors() -> dict[str, torch.Tensor]:
    """As sd-scripts writes them: attention, feed-forward, LoCon convolution, text encoders."""
    torch.manual_seed(0)
    shapes = {
        f"{KOHYA}_attn1_to_q": ((640, 4), (4, 640), 2.0),
        f"{KOHYA}_attn2_to_out_0": ((640, 3), (3, 640), 3.0),
        f"{KOHYA}_ff_net_2": ((640, 4), (4, 2560), 1.0),
        "lora_unet_input_blocks_5_0_in_layers_2": ((640, 4, 1, 1), (4, 640, 3, 3), 2.0),
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj": ((768, 4), (4, 768), 1.0),
        "lora_te2_text_model_encoder_layers_3_mlp_fc1": ((5120, 4), (4, 1280), 8.0),
    }
    tensors = {}
    for module, (up, down, alpha) in shapes.items():
        tensors[f"{module}.lora_up.weight"] = torch.randn(up)
        tensors[f"{module}.lora_down.weight"] = torch.randn(down)
        tensors[f"{module}.alpha"] = torch.tensor(alpha)
    return tensors


CANONICAL = {
    f"{KOHYA}_attn1_to_q": f"unet.{BLOCK}.attn1.to_q",
    f"{KOHYA}_attn2_to_out_0": f"unet.{BLOCK}.attn2.to_out.0",
    f"{KOHYA}_ff_net_2": f"unet.{BLOCK}.ff.net.2",
    "lora_unet_input_blocks_5_0_in_layers_2": "unet.down_blocks.1.resnets.1.conv1",
    "lora_te1_text_model_encoder_layers_0_self_attn_q_proj": (
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    ),
    "lora_te2_text_model_encoder_layers_3_mlp_fc1": (
        "text_encoder_2.text_model.encoder.layers.3.mlp.fc1"
    ),
}


def test_kohya_files_read_with_alpha_over_rank(tmp_path):
    tensors = kohya_tensors()
    save_file(tensors, tmp_path / "k.safetensors")
    found = load_lora(tmp_path / "k.safetensors").layers
    assert found.keys() == set(CANONICAL.values())
    for kohya, canonical in CANONICAL.items():
        up, down = (tensors[f"{kohya}.lora_{part}.weight"].numpy() for part in ("up", "down"))
        assert np.array_equal(found[canonical].up, up)
        assert np.array_equal(found[canonical].down, down)
        assert found[canonical].scale == float(tensors[f"{kohya}.alpha"]) / down.shape[0]


def test_kohya_names_of_diffusers_blocks_read_alike(tmp_path):
    name = f"unet.{BLOCK}.attn1.to_q"
    peft = {
        f"{name}.lora_A.weight": torch.randn(2, 640),
        f"{name}.lora_B.weight": torch.randn(640, 2),
    }
    kohya = {
        key.replace("unet_", "lora_unet_", 1) if key.startswith("unet_") else key: value
        for key, value in convert_state_dict_to_kohya(peft).items()
    }
    save_file(kohya, tmp_path / "k.safetensors")
    layer = load_lora(tmp_path / "k.safetensors").layers[name]
    assert np.array_equal(layer.up, peft[f"{name}.lora_B.weight"].numpy()) and layer.scale == 1


@pytest.mark.parametrize(
    ("down", "up", "layer"),
    [
        ("unet.{}.lora.down.weight", "unet.{}.lora.up.weight", f"{BLOCK}.attn1.to_q"),
        ("unet.{}.lora_A.weight", "unet.{}.lora_B.weight", f"{BLOCK}.ff.net.2"),
        ("base_model.model.{}.lora_A.weight", "base_model.model.{}.lora_B.weight",
         f"{BLOCK}.attn1.to_v"),
        ("base_model.model.unet.{}.lora_A.default.weight",
         "base_model.model.unet.{}.lora_B.default.weight", f"{BLOCK}.attn1.to_v"),
        (f"unet.{BLOCK}.attn1.processor.to_out_lora.down.weight",
         f"unet.{BLOCK}.attn1.processor.to_out_lora.up.weight", f"{BLOCK}.attn1.to_out.0"),
        (f"{BLOCK}.attn1.processor.to_q_lora.down.weight",
         f"{BLOCK}.attn1.processor.to_q_lora.up.weight", f"{BLOCK}.attn1.to_q"),
    ],
)  # fmt: skip
def test_diffusers_and_peft_names_old_and_new_read_alike(down, up, layer, tmp_path):
    width = 2560 if ".ff." in layer else 640
    tensors = {down.format(layer): torch.randn(2, width), up.format(layer): torch.randn(640, 2)}
    save_file(tensors, tmp_path / "d.safetensors")
    (name, found), *others = load_lora(tmp_path / "d.safetensors").layers.items()
    assert name == f"unet.{layer}" and not others and found.scale == 1
    assert np.array_equal(found.down, tensors[down.format(layer)].numpy())


class Attention(nn.Module):
    """Two of SDXL's projections under their names, to be adapted by peft."""

    def __init__(self):
        super().__init__()
        self.down_blocks = nn.ModuleList([nn.Module(), nn.Module()])
        block = nn.Module()
        block.attn1 = nn.ModuleDict({"to_q": nn.Linear(640, 640), "to_k": nn.Linear(640, 640)})
        attention = nn.Module()
        attention.transformer_blocks = nn.ModuleList([block])
        self.down_blocks[1].attentions = nn.ModuleList([attention])

    def forward(self, x):
        attn = self.down_blocks[1].attentions[0].transformer_blocks[0].attn1
        return attn["to_q"](x) + attn["to_k"](x)


@pytest.mark.parametrize("rslora", [False, True])
def test_peft_folders_read_as_peft_computes_them(rslora, tmp_path):
    torch.manual_seed(0)
    model = Attention()
    x = torch.randn(3, 640)
    plain = model(x).detach()
    config = LoraConfig(
        r=4, lora_alpha=8, rank_pattern={"to_k": 2}, alpha_pattern={"to_k": 3},
        use_rslora=rslora, target_modules=["to_q", "to_k"], init_lora_weights=False,
    )  # fmt: skip
    adapted = get_peft_model(model, config)
    wanted = (adapted(x).detach() - plain).numpy()
    adapted.save_pretrained(tmp_path / "peft")
    lora = load_lora(tmp_path / "peft")
    assert set(lora.layers) == {f"unet.{BLOCK}.attn1.{name}" for name in ("to_q", "to_k")}
    found = sum(x.numpy() @ reference.dense(*layer).T for layer in lora.layers.values())
    assert np.linalg.norm(found - wanted) < 1e-5 * np.linalg.norm(wanted)


def test_peft_folders_keep_text_encoders(tmp_path):
    save_file(kohya_tensors(), tmp_path / "k.safetensors")
    before = load_lora(tmp_path / "k.safetensors")
    save_lora(before, tmp_path / "peft", "peft")
    after = load_lora(tmp_path / "peft")
    assert before.layers.keys() == after.layers.keys()
    for name, layer in before.layers.items():
        wanted = reference.dense(*layer)
        found = reference.dense(*after.layers[name])
        assert np.linalg.norm(found - wanted) < 1e-6 * np.linalg.norm(wanted)


def test_alphas_in_diffusers_adapter_metadata_are_honoured(tmp_path):
    tensors = {
        f"unet.{BLOCK}.attn1.to_q.lora_A.weight": torch.randn(4, 640),
        f"unet.{BLOCK}.attn1.to_q.lora_B.weight": torch.randn(640, 4),
    }
    metadata = {"lora_adapter_metadata": json.dumps({"unet.r": 4, "unet.lora_alpha": 6})}
    save_file(tensors, tmp_path / "d.safetensors", metadata)
    (layer,) = load_lora(tmp_path / "d.safetensors").layers.values()
    assert layer.scale == 1.5
    for layout in ("diffusers", "kohya"):  # folded once, though the file is read and saved twice
        save_lora(load_lora(tmp_path / "d.safetensors"), tmp_path / layout, layout)
        save_lora(load_lora(tmp_path / layout), tmp_path / f"{layout}2")
        (again,) = load_lora(tmp_path / f"{layout}2").layers.values()
        found, wanted = reference.dense(*again), reference.dense(*layer)
        assert np.linalg.norm(found - wanted) < 1e-6 * np.linalg.norm(wanted)


def test_saving_folds_the_scale_into_up_once(tmp_path):
    lora = standin_lora("koala-700m", 2, seed=0, dtype=np.float32)
    lora.layers = {name: Layer(*layer[:2], 0.37) for name, layer in lora.layers.items()}
    for layout in ("diffusers", "kohya", "peft"):
        save_lora(lora, tmp_path / layout, layout)
        again = load_lora(tmp_path / layout)
        for name in list(lora.layers)[::40]:
            wanted = reference.dense(*lora.layers[name])
            found = reference.dense(*again.layers[name])
            assert np.linalg.norm(found - wanted) < 1e-6 * np.linalg.norm(wanted)


def test_loading_reads_the_header_only(tmp_path):
    """A sparse file of 8 GB whose weights could not be read in time or memory."""
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    rank = 1 << 20
    size = rank * 1280 * 4
    header = {
        f"{name}.lora_A.weight": {"dtype": "F32", "shape": [rank, 1280], "data_offsets": [0, size]},
        f"{name}.lora_B.weight": {
            "dtype": "F32",
            "shape": [1280, rank],
            "data_offsets": [size, 2 * size],
        },
    }
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(8 + len(encoded) + 2 * size)
    assert load_lora(path).layers[name].rank == rank


def test_prepared_files_keep_lora_and_features(tmp_path):
    hypernet = Hypernet.random()
    pair = [standin_lora("koala-700m", 2, seed=seed) for seed in (1, 2)]
    wanted = coefficients(*pair, hypernet)
    for level in ("small", "full-fp16", "full-int8"):
        read = []
        for lora, role in zip(pair, ("content", "style"), strict=True):
            path = tmp_path / f"{role}-{level}.safetensors"
            save_lora(prepare(lora, hypernet, role, level), path)
            read.append(load_lora(path))
            assert read[-1].layers.keys() == lora.layers.keys()
            assert read[-1].prepared.level == level
            assert 1e-6 < read[-1].prepared.error < (2e-2 if level == "full-int8" else 1e-3)
        save_lora(read[0], tmp_path / f"{level}.kohya", "kohya")
        assert load_lora(tmp_path / f"{level}.kohya").prepared is None
        found = coefficients(*read, hypernet)
        for name, m in wanted.items():
            assert np.abs(found[name] - m).max() < 1e-3


def test_no_layout_needs_torch(tmp_path):
    """As in the core install: torch, diffusers and peft cannot be imported."""
    save_file(kohya_tensors(), tmp_path / "kohya")
    lora = load_lora(tmp_path / "kohya")
    lora.layers = {name: layer for name, layer in lora.layers.items() if layer.rank == 4}
    lora.layers[f"unet.{BLOCK}.attn1.to_k"] = lora.layers[f"unet.{BLOCK}.attn1.to_q"]
    for layout in ("diffusers", "peft"):
        save_lora(lora, tmp_path / layout, layout)
    code = f"""
import sys
for name in ("torch", "diffusers", "peft", "transformers"):
    sys.modules[name] = None
from lorarar.cli import cli
folder = {str(tmp_path)!r}
for layout in ("kohya", "diffusers", "peft"):
    cli(["inspect", f"{{folder}}/{{layout}}"], standalone_mode=False)
    for other in ("kohya", "diffusers", "peft"):
        output = f"{{folder}}/{{layout}}-{{other}}"
        merge = ["merge", f"{{folder}}/{{layout}}", f"{{folder}}/diffusers", "-o", output]
        cli([*merge, "--method", "direct", "--format", other], standalone_mode=False)
        cli(["convert", output, "-o", output + "2"], standalone_mode=False)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert len(load_lora(tmp_path / "kohya-peft2").layers) == 7


def test_hypernet_round_trip_and_published_pth(tmp_path):
    hypernet = Hypernet.random()
    save_hypernet(hypernet, tmp_path / "h.safetensors")
    published = {
        "output.1.weight": torch.from_numpy(hypernet.output[0]),
        "output.1.bias": torch.from_numpy(hypernet.output[1]),
    }
    for index, width in ((1, 640), (2, 1280)):
        weight, bias = hypernet.inputs[width]
        published[f"input_{index}.weight"] = torch.from_numpy(weight)
        published[f"input_{index}.bias"] = torch.from_numpy(bias)
    assert sum(tensor.numel() for tensor in published.values()) == 492_034
    torch.save(published, tmp_path / "hypernet.pth")
    pair = standin_lora("koala-700m", 2, seed=1), standin_lora("koala-700m", 2, seed=2)
    wanted = coefficients(*pair, hypernet)
    assert len(wanted) == 168 // 2
    for name in ("h.safetensors", "hypernet.pth"):
        read = load_hypernet(tmp_path / name)
        assert read.fingerprint == hypernet.fingerprint
        found = coefficients(*pair, read)
        assert all(np.array_equal(found[layer], wanted[layer]) for layer in wanted)


def test_offsets_are_kept_and_added_to_what_is_predicted(tmp_path):
    pair = standin_lora("koala-700m", 2, seed=1), standin_lora("koala-700m", 2, seed=2)
    plain = Hypernet.random()
    wanted = coefficients(*pair, plain)
    first, *others = wanted
    offset = np.linspace(-1, 1, wanted[first].size, dtype=np.float32).reshape(2, -1)
    path = tmp_path / "h.safetensors"
    save_hypernet(replace(plain, offsets={first: offset}), path)
    read = load_hypernet(path)
    found = coefficients(*pair, read)
    assert np.allclose(found[first], wanted[first] + offset, atol=1e-6)
    assert all(np.array_equal(found[layer], wanted[layer]) for layer in others)
    assert read.fingerprint != plain.fingerprint
    save_hypernet(replace(plain, offsets={first: offset[:, 1:]}), path, force=True)
    with pytest.raises(LorararError, match=r"h\.safetensors: layer .* columns, but .* trained for"):
        coefficients(*pair, load_hypernet(path))
    save_hypernet(replace(plain, offsets={first: offset[0]}), path, force=True)
    with pytest.raises(LorararError, match=r"h\.safetensors: weights of mismatched shapes"):
        load_hypernet(path)


def test_which_projections_are_predicted_is_kept_with_the_hypernetwork(tmp_path):
    hypernet = Hypernet.random(predicts=("to_q", "to_k", "to_v", "to_out.0"))
    save_hypernet(hypernet, tmp_path / "h.safetensors")
    pair = standin_lora("koala-700m", 1, seed=1), standin_lora("koala-700m", 1, seed=2)
    m = coefficients(*pair, load_hypernet(tmp_path / "h.safetensors"))
    assert {name.removeprefix("unet."): (v.shape[1],) for name, v in m.items()} == {
        name: (width,) for name, (_, width) in SHAPES["koala-700m"].items()
    }


def test_unaligned_tensors_are_read(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", {"x": np.arange(3, dtype=np.float32)}, {})
    content = (tmp_path / "a.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].rstrip() + b" "
    shifted = len(header).to_bytes(8, "little") + header + content[8 + size :]
    (tmp_path / "b.safetensors").write_bytes(shifted)
    tensors, _ = read_safetensors(tmp_path / "b.safetensors")
    assert np.array_equal(tensors["x"], [0, 1, 2])
