import pytest
import torch
from safetensors.torch import save_file

from lorarar import Hypernet, LorararError, load_lora, save_lora
from lorarar.bases import BASES, attention_shapes
from lorarar.hypernet import load_hypernet, save_hypernet
from lorarar.merge import coefficients
from lorarar.standin import standin_lora


def test_shapes_count_the_published_projections():
    counts = {name: len(attention_shapes(base)) for name, base in BASES.items()}
    assert counts == {"sdxl": 560, "koala-1b": 240, "koala-700m": 168}
    shapes = list(attention_shapes(BASES["sdxl"]).values())
    wanted = {(1280, 1280): 360, (1280, 2048): 120, (640, 640): 60, (640, 2048): 20}
    assert {shape: shapes.count(shape) for shape in wanted} == wanted


def test_save_and_load_give_the_same_layers(tmp_path):
    lora = standin_lora("koala-700m", 2, seed=0)
    save_lora(lora, tmp_path / "a.safetensors")
    again = load_lora(tmp_path / "a.safetensors")
    assert again.metadata == lora.metadata
    assert again.layers.keys() == lora.layers.keys()
    for name, layer in lora.layers.items():
        assert torch.equal(layer.up, again.layers[name].up)
        assert torch.equal(layer.down, again.layers[name].down)


def test_kohya_file_reads_with_alpha_over_rank(tmp_path):
    kohya = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    down, up = torch.randn(4, 640), torch.randn(640, 4)
    tensors = {f"{kohya}.lora_down.weight": down, f"{kohya}.lora_up.weight": up}
    encoder = "lora_te1_text_model_encoder_layers_0_self_attn_q_proj"
    tensors |= {f"{encoder}.lora_down.weight": down, f"{encoder}.lora_up.weight": up}
    tensors[f"{encoder}.alpha"] = torch.tensor(1.0)
    save_file(
        {k: v.clone() for k, v in tensors.items()} | {f"{kohya}.alpha": torch.tensor(2.0)},
        tmp_path / "k.safetensors",
    )
    (name, layer), (encoder_name, encoder_layer) = sorted(
        load_lora(tmp_path / "k.safetensors").layers.items(), reverse=True
    )
    assert encoder_name == "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    assert encoder_layer.scale == 0.25
    assert name == "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    assert torch.equal(layer.up, up) and torch.equal(layer.down, down) and layer.scale == 0.5


def test_hypernet_round_trip_and_published_pth(tmp_path):
    hypernet = Hypernet.random()
    save_hypernet(hypernet, tmp_path / "h.safetensors")
    published = {"output.1.weight": hypernet.output[0], "output.1.bias": hypernet.output[1]}
    for index, width in ((1, 640), (2, 1280)):
        published[f"input_{index}.weight"], published[f"input_{index}.bias"] = hypernet.inputs[
            width
        ]
    torch.save(published, tmp_path / "hypernet.pth")
    pair = standin_lora("koala-700m", 2, seed=1), standin_lora("koala-700m", 2, seed=2)
    wanted = coefficients(*pair, hypernet)
    assert len(wanted) == 168 // 2
    for name in ("h.safetensors", "hypernet.pth"):
        found = coefficients(*pair, load_hypernet(tmp_path / name))
        assert all(torch.equal(found[layer], wanted[layer]) for layer in wanted)


class Payload:
    def __reduce__(self):
        return (print, ("code from the file ran",))


def test_a_pickle_with_code_is_refused_unrun(tmp_path, capsys):
    torch.save(Payload(), tmp_path / "evil.pth")
    with pytest.raises(LorararError, match=r"evil\.pth"):
        load_hypernet(tmp_path / "evil.pth")
    assert "ran" not in capsys.readouterr().out


Q = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("up", "down", "line"),
    [
        ((1280, 4), (3, 1280), "swapped up and down"),
        ((4, 1280), (1280, 4), "swapped|another base"),
        ((320, 4), (4, 320), "another base"),
    ],
)
def test_wrong_shapes_name_file_and_layer(tmp_path, up, down, line):
    path = tmp_path / "bad.safetensors"
    save_file({f"{Q}.lora_A.weight": torch.ones(down), f"{Q}.lora_B.weight": torch.ones(up)}, path)
    with pytest.raises(LorararError, match=line) as caught:
        load_lora(path)
    assert "bad.safetensors" in str(caught.value) and Q in str(caught.value)


def test_nan_and_lokr_are_refused_by_name(tmp_path):
    path = tmp_path / "bad.safetensors"
    save_file({f"{Q}.lora_A.weight": torch.tensor([float("nan")])}, path)
    with pytest.raises(LorararError, match="NaN"):
        load_lora(path)
    save_file({"lora_unet_x.lokr_w1": torch.ones(2, 2)}, path)
    with pytest.raises(LorararError, match="LoKr"):
        load_lora(path)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_files_are_one_clear_line(tmp_path, keep):
    path = tmp_path / "cut.safetensors"
    save_lora(standin_lora("koala-700m", 1, seed=0), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(LorararError, match=r"cut\.safetensors") as caught:
        load_lora(path)
    assert "\n" not in str(caught.value)


def test_an_existing_output_is_kept_and_nothing_partial_left(tmp_path):
    path = tmp_path / "out.safetensors"
    path.write_bytes(b"mine")
    with pytest.raises(LorararError, match="--force"):
        save_lora(standin_lora("koala-700m", 1, seed=0), path)
    assert path.read_bytes() == b"mine"
    save_lora(standin_lora("koala-700m", 1, seed=0), path, force=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.safetensors"]
