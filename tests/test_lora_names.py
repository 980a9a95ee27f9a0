"""Each output layout, loaded by the library that it is meant for, draws what the formula says."""

import copy
import json

import numpy as np
import pytest
import reference
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from peft import PeftModel
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lorarar import Hypernet, Layer, Lora, coefficients, save_lora, weighted_sum
from lorarar.lora_names import kohya_name

DEPTH = "down_blocks.1.attentions.0.transformer_blocks.0"
LAYERS = [
    f"{DEPTH}.attn1.to_q",
    f"{DEPTH}.attn2.to_k",
    f"{DEPTH}.attn2.to_out.0",
    f"{DEPTH}.ff.net.0.proj",
    "mid_block.attentions.0.transformer_blocks.1.attn1.to_v",
    "up_blocks.0.attentions.2.proj_in",
    "down_blocks.0.resnets.0.conv1",
    "up_blocks.1.upsamplers.0.conv",
]
ENCODER_LAYERS = [
    f"text_encoder{which}.text_model.encoder.layers.0.{name}"
    for which in ("", "_2")
    for name in ("self_attn.q_proj", "self_attn.out_proj", "mlp.fc1")
]


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64, 64),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(2, 4, 4),
        cross_attention_dim=48,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64,
    ).eval()


@pytest.fixture(scope="module")
def encoders():
    config = CLIPTextConfig(
        vocab_size=99, hidden_size=32, intermediate_size=37, num_attention_heads=4,
        num_hidden_layers=1, projection_dim=32,
    )  # fmt: skip
    torch.manual_seed(1)
    return CLIPTextModel(config).eval(), CLIPTextModelWithProjection(config).eval()


def module_of(name: str, unet, encoders):
    component, _, path = name.partition(".")
    root = {"unet": unet, "text_encoder": encoders[0], "text_encoder_2": encoders[1]}[component]
    return root.get_submodule(path)


def draw(rank: int, seed: int, unet, encoders, names: list[str]) -> Lora:
    generator = np.random.default_rng(seed)
    layers = {}
    for name in names:
        weight = module_of(name, unet, encoders).weight
        ones = (1,) * (weight.ndim - 2)
        up = generator.standard_normal((weight.shape[0], rank, *ones), np.float32)
        down = generator.standard_normal((rank, *weight.shape[1:]), np.float32)
        layers[name] = Layer(up * np.float32(0.1), down * np.float32(0.1), 0.5 * rank)
    return Lora(layers)


@pytest.fixture(scope="module")
def merged(unet, encoders) -> Lora:
    names = [f"unet.{name}" for name in LAYERS] + ENCODER_LAYERS
    pair = [draw(rank, rank, unet, encoders, names) for rank in (2, 3)]
    result = weighted_sum(*pair, coefficients(*pair, Hypernet.random((64,), hidden=8)), 0.7, 1.2)
    result.layers[f"unet.{LAYERS[0]}"] = pair[0].layers[f"unet.{LAYERS[0]}"]  # another rank
    return result


@torch.no_grad()
def outputs(unet, encoders) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    sample = torch.randn(1, 4, 8, 8, generator=generator)
    text = torch.randn(1, 5, 48, generator=generator)
    added = {"text_embeds": torch.ones(1, 16), "time_ids": torch.ones(1, 6)}
    tokens = torch.arange(7)[None]
    return [
        unet(sample, 10, text, added_cond_kwargs=added).sample,
        *(encoder(tokens).last_hidden_state for encoder in encoders),
    ]


@pytest.fixture(scope="module")
def wanted(unet, encoders, merged) -> list[torch.Tensor]:
    """Outputs with the dense differences of the formula added to the weights."""
    unet, encoders = copy.deepcopy((unet, encoders))
    for name, layer in merged.layers.items():
        weight = module_of(name, unet, encoders).weight
        weight.data += torch.from_numpy(reference.dense(*layer)).to(weight)
    return outputs(unet, encoders)


def check(found: list[torch.Tensor], wanted: list[torch.Tensor], plain: list[torch.Tensor]):
    for one, other, without in zip(found, wanted, plain, strict=True):
        assert (one - other).norm() < 1e-4 * other.norm()
        assert (one - without).norm() > 1e-2 * without.norm()


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_pipeline_load_lora_weights_gives_the_formula_s_outputs(
    layout, unet, encoders, merged, wanted, tmp_path
):
    path = tmp_path / "merged.safetensors"
    save_lora(merged, path, layout)
    plain = outputs(unet, encoders)
    unet, encoders = copy.deepcopy((unet, encoders))
    pipeline = StableDiffusionXLPipeline(
        vae=None,
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=None,
        tokenizer_2=None,
        unet=unet,
        scheduler=EulerDiscreteScheduler(),
    )
    pipeline.load_lora_weights(str(path))
    check(outputs(unet, encoders), wanted, plain)


def test_peft_model_gives_the_formula_s_outputs(unet, encoders, merged, wanted, tmp_path):
    save_lora(merged, tmp_path / "merged", "peft")
    plain = outputs(unet, encoders)
    unet, encoders = copy.deepcopy((unet, encoders))
    folders = [tmp_path / "merged" / name for name in ("", "text_encoder", "text_encoder_2")]
    for model, folder in zip((unet, *encoders), folders, strict=True):
        PeftModel.from_pretrained(model, str(folder))  # adapts the model in place
    check(outputs(unet, encoders), wanted, plain)


@pytest.mark.parametrize(
    ("layer", "kohya"),
    [
        (f"unet.{DEPTH}.attn1.to_q", "input_blocks_4_1_transformer_blocks_0_attn1_to_q"),
        (
            "unet.up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_out.0",
            "output_blocks_5_1_transformer_blocks_0_attn2_to_out_0",
        ),
        ("unet.mid_block.attentions.0.proj_in", "middle_block_1_proj_in"),
        ("unet.down_blocks.1.resnets.1.conv2", "input_blocks_5_0_out_layers_3"),
        ("unet.down_blocks.2.attentions.1.proj_out", "input_blocks_8_1_proj_out"),
    ],
)
def test_kohya_names_are_those_of_sd_scripts(layer, kohya):
    assert kohya_name(layer, 2) == f"lora_unet_{kohya}"


def test_kohya_files_say_what_sd_scripts_reads(merged, tmp_path):
    save_lora(merged, tmp_path / "k.safetensors", "kohya")
    with safe_open(tmp_path / "k.safetensors", framework="np") as file:
        metadata = file.metadata()
        module = kohya_name(f"unet.{LAYERS[1]}", 2)
        down = file.get_tensor(f"{module}.lora_down.weight")
        up, alpha = file.get_tensor(f"{module}.lora_up.weight"), file.get_tensor(f"{module}.alpha")
    assert metadata["ss_network_module"] == "networks.lora"
    assert metadata["ss_base_model_version"] == "sdxl_base_v1-0"
    assert metadata["ss_network_dim"] == "Dynamic"
    assert metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    dw = float(alpha) / down.shape[0] * up @ down
    wanted = reference.dense(*merged.layers[f"unet.{LAYERS[1]}"])
    assert np.linalg.norm(dw - wanted) < 1e-5 * np.linalg.norm(wanted)


def test_a_peft_folder_is_replaced_only_when_forced(merged, tmp_path):
    from lorarar import LorararError

    folder = tmp_path / "merged"
    save_lora(merged, folder, "peft")
    with pytest.raises(LorararError, match="--force"):
        save_lora(merged, folder, "peft")
    before = json.loads((folder / "adapter_config.json").read_text())
    save_lora(merged, folder, "peft", force=True)
    assert json.loads((folder / "adapter_config.json").read_text()) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["merged"]
