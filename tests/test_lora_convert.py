"""Other kinds of adapters as plain LoRAs, against their formulas in float64."""

import copy

import numpy as np
import pytest
import reference
import torch
from peft import LoHaConfig, LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import save_file
from test_cli import run
from torch import nn

from lorarar import LorararError, load_lora
from lorarar.lora_convert import convert_lora, low_rank

LINEAR = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"  # 96 wide in "mini"
CONV = "unet.down_blocks.0.resnets.0.conv1"  # (48, 48, 3, 3)
NAMES = {
    LINEAR: "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q",
    CONV: "lora_unet_input_blocks_1_0_in_layers_2",
}
SHAPES = {LINEAR: (96, 96), CONV: (48, 48, 3, 3)}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def tucker(core, a, b):
    return np.einsum("ijkl,ip,jr->prkl", core, a, b)


def loha(name):
    out, width, *kernel = SHAPES[name]
    parts = {f"hada_w{i}_a": normal(out, 2) + i for i in (1, 2)}
    parts |= {f"hada_w{i}_b": normal(2, width * int(np.prod(kernel, initial=1))) for i in (1, 2)}
    one, other = (parts[f"hada_w{i}_a"] @ parts[f"hada_w{i}_b"] for i in (1, 2))
    return parts, (one * other).reshape(SHAPES[name]), 2


def loha_tucker(name):
    out, width, *kernel = SHAPES[name]
    parts = {}
    for i in (1, 2):
        parts |= {f"hada_w{i}_a": normal(2, out) * i, f"hada_w{i}_b": normal(2, width)}
        parts[f"hada_t{i}"] = normal(2, 2, *kernel)
    halves = [
        tucker(parts[f"hada_t{i}"], parts[f"hada_w{i}_a"], parts[f"hada_w{i}_b"]) for i in (1, 2)
    ]
    return parts, halves[0] * halves[1], 2


def lokr(name):
    out, width, *kernel = SHAPES[name]
    parts = {"lokr_w1": normal(4, 4), "lokr_w2_a": normal(out // 4, 3)}
    parts["lokr_w2_b"] = normal(3, width // 4 * int(np.prod(kernel, initial=1)))
    second = (parts["lokr_w2_a"] @ parts["lokr_w2_b"]).reshape(out // 4, width // 4, *kernel)
    return parts, kron(parts["lokr_w1"], second), 3


def lokr_whole(name):
    """Both factors whole: alpha does not count."""
    out, width, *kernel = SHAPES[name]
    parts = {"lokr_w1": normal(4, 4), "lokr_w2": normal(out // 4, width // 4, *kernel)}
    return parts, kron(parts["lokr_w1"], parts["lokr_w2"]), None


def lokr_tucker(name):
    out, width, *kernel = SHAPES[name]
    parts = {"lokr_w1_a": normal(4, 2), "lokr_w1_b": normal(2, 4), "lokr_t2": normal(2, 2, *kernel)}
    parts |= {"lokr_w2_a": normal(2, out // 4), "lokr_w2_b": normal(2, width // 4)}
    second = tucker(parts["lokr_t2"], parts["lokr_w2_a"], parts["lokr_w2_b"])
    return parts, kron(parts["lokr_w1_a"] @ parts["lokr_w1_b"], second), 2


def kron(one, other):
    return np.kron(one.reshape(*one.shape, *(1 for _ in other.shape[2:])), other)


def locon_tucker(name):
    out, width, *kernel = SHAPES[name]
    parts = {"lora_up.weight": normal(out, 3, 1, 1), "lora_down.weight": normal(3, width, 1, 1)}
    parts["lora_mid.weight"] = normal(3, 3, *kernel)
    up, down = parts["lora_up.weight"][:, :, 0, 0], parts["lora_down.weight"][:, :, 0, 0]
    return parts, np.einsum("oi,ijkl,jw->owkl", up, parts["lora_mid.weight"], down), 3


def full(name):
    return (
        {"diff": normal(*SHAPES[name]), "diff_b": normal(SHAPES[name][0])},
        normal(*SHAPES[name]),
        None,
    )


CASES = [
    (loha, LINEAR), (loha, CONV), (loha_tucker, CONV), (lokr, LINEAR), (lokr, CONV),
    (lokr_whole, LINEAR), (lokr_whole, CONV), (lokr_tucker, CONV), (locon_tucker, CONV),
    (full, LINEAR), (full, CONV),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "layer"), CASES)
def test_each_kind_becomes_a_lora_of_its_formula(kind, layer, tmp_path):
    parts, dense, rank = kind(layer)
    tensors = {f"{NAMES[layer]}.{part}": tensor for part, tensor in parts.items()}
    path = tmp_path / "x.safetensors"
    save_file(tensors | {f"{NAMES[layer]}.alpha": np.array(0.5, np.float32)}, path)
    with pytest.raises(LorararError, match=r"lorarar convert x\.safetensors .*--rank"):
        load_lora(path)
    wanted = dense.astype(np.float64) * (0.5 / rank if rank else 1)
    matrix = wanted.reshape(len(wanted), -1)
    values = np.linalg.svd(matrix, compute_uv=False)
    for given in (5, 96):
        done = convert_lora(path, given)
        (name, converted), *others = done.lora.layers.items()
        assert name == layer and not others and converted.rank <= given
        found = reference.dense(*converted)
        assert found.shape == SHAPES[layer]
        error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        best = np.sqrt(np.square(values[given:]).sum() / np.square(values).sum())
        assert best - 1e-6 <= error < 1.01 * best + 1e-5
        assert abs(done.errors[layer] - error) < 1e-5 and abs(done.error - error) < 1e-5


def test_a_low_rank_matrix_is_found_whole():
    matrix = normal(300, 12) @ normal(12, 500)
    up, down = low_rank(matrix, 12)
    assert np.linalg.norm(up @ down - matrix) < 1e-5 * np.linalg.norm(matrix)
    assert abs(np.abs(up).max() / np.abs(down).max() - 1) < 0.5


def test_a_plain_lora_is_reduced(tmp_path):
    tensors = {f"{LINEAR}.lora_A.weight": normal(8, 96), f"{LINEAR}.lora_B.weight": normal(96, 8)}
    save_file(tensors, tmp_path / "x.safetensors")
    done = convert_lora(tmp_path / "x.safetensors", 8)
    assert done.error == 0 and np.array_equal(done.lora.layers[LINEAR].up, normal(96, 8))
    assert convert_lora(tmp_path / "x.safetensors", 4).error > 0.1


class Two(nn.Module):
    """A linear layer and a convolution under their names, to be adapted by peft."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.down_blocks = nn.ModuleList([nn.Module(), nn.Module()])
        resnet, block, attention = nn.Module(), nn.Module(), nn.Module()
        resnet.conv1 = nn.Conv2d(48, 48, 3, padding=1)
        block.attn1 = nn.ModuleDict({"to_q": nn.Linear(96, 96, bias=False)})
        attention.transformer_blocks = nn.ModuleList([block])
        self.down_blocks[0].resnets = nn.ModuleList([resnet])
        self.down_blocks[1].attentions = nn.ModuleList([attention])

    def weight(self, layer: str) -> torch.Tensor:
        return self.get_submodule(layer.removeprefix("unet.")).weight


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=4, lora_alpha=3, target_modules=["to_q", "conv1"], use_dora=True),
        LoHaConfig(r=2, alpha=3, target_modules=["to_q", "conv1"], init_weights=False),
    ],
    ids=["DoRA", "LoHa"],
)
def test_peft_s_own_merge_is_what_its_folder_converts_to(config, tmp_path):
    base = Two()
    adapted = get_peft_model(copy.deepcopy(base), config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape)
    adapted.save_pretrained(tmp_path / "peft")
    (tmp_path / "base" / "unet").mkdir(parents=True)
    weights = {f"{n}": p.detach().numpy() for n, p in base.named_parameters()}
    save_file(weights, tmp_path / "base" / "unet" / "diffusion_pytorch_model.safetensors")
    merged = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "peft").merge_and_unload()
    done = convert_lora(tmp_path / "peft", 96, tmp_path / "base")
    assert done.lora.layers.keys() == {LINEAR, CONV}
    for name, layer in done.lora.layers.items():
        wanted = (merged.weight(name) - base.weight(name)).detach().numpy()
        assert np.linalg.norm(reference.dense(*layer) - wanted) < 1e-4 * np.linalg.norm(wanted)


@pytest.mark.parametrize("axis", [0, 1])
def test_lycoris_dora_normalises_rows_or_columns(axis, tmp_path):
    weight, up, down = normal(48, 48, 3, 3), normal(48, 2, 1, 1), normal(2, 48, 3, 3)
    shape = (48, 1, 1, 1) if axis == 0 else (1, 48, 1, 1)
    scale = np.abs(normal(*shape)) + 1
    tensors = {"lora_up.weight": up, "lora_down.weight": down, "dora_scale": scale}
    path, base = tmp_path / "x.safetensors", tmp_path / "base.safetensors"
    save_file({f"{NAMES[CONV]}.{part}": tensor for part, tensor in tensors.items()}, path)
    save_file({"model.diffusion_model.input_blocks.1.0.in_layers.2.weight": weight}, base)
    after = weight.astype(np.float64) + reference.dense(up, down)
    axes = (1, 2, 3) if axis == 0 else (0, 2, 3)
    norms = np.sqrt(np.square(after).sum(axes, keepdims=True))
    wanted = scale * after / norms - weight
    done = convert_lora(path, 432, base)
    found = reference.dense(*done.lora.layers[CONV])
    assert np.linalg.norm(found - wanted) < 1e-4 * np.linalg.norm(wanted)
    with pytest.raises(LorararError, match="--model"):
        convert_lora(path, 8)
    save_file({"unrelated.weight": weight}, base)
    with pytest.raises(LorararError, match=r"base\.safetensors: has no weights of layer"):
        convert_lora(path, 8, base)


def test_the_command_tells_each_layer_s_error_and_what_was_left_out(tmp_path, monkeypatch, capsys):
    parts, _, _ = full(LINEAR)
    tensors = {f"{NAMES[LINEAR]}.{part}": tensor for part, tensor in parts.items()}
    path, out = tmp_path / "x.safetensors", tmp_path / "plain.safetensors"
    embedding = "text_encoders.clip_l.transformer.text_model.embeddings.token_embedding.diff"
    save_file(tensors | {"lora_unet_out_0.diff": normal(48), embedding: normal(9, 64)}, path)
    assert run(monkeypatch, "convert", path, "-o", out, "--rank", 8) == 0
    shown = capsys.readouterr()
    assert f"{LINEAR}: relative error" in shown.out and "1 layers, relative error" in shown.out
    assert (
        "left out 2 biases, norms and embeddings" in shown.err
        and "biases, of layers as" in shown.err
    )
    assert load_lora(out).layers[LINEAR].rank == 8
    assert run(monkeypatch, "convert", path, "-o", tmp_path / "no.safetensors") == 1
    assert not (tmp_path / "no.safetensors").exists()


@pytest.mark.parametrize("part", ["a1.weight", "oft_blocks", "on_input", "w_norm"])
def test_what_cannot_be_a_lora_stays_refused(part, tmp_path):
    save_file({f"{NAMES[LINEAR]}.{part}": normal(4, 4)}, tmp_path / "x.safetensors")
    with pytest.raises(LorararError, match=r"GLoRA|OFT|IA3|norm difference"):
        convert_lora(tmp_path / "x.safetensors", 8)


def test_parts_that_do_not_fit_each_other_are_named(tmp_path):
    parts, _, _ = loha(LINEAR)
    parts["hada_w2_b"] = parts["hada_w2_b"][:, :50]
    tensors = {f"{NAMES[LINEAR]}.{part}": np.ascontiguousarray(t) for part, t in parts.items()}
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(LorararError, match=r"hada_w2_b.*do not fit each other"):
        convert_lora(tmp_path / "x.safetensors", 8)
