"""Every layer of every base, in every layout: what other tools load is what was written."""

import numpy as np
import pytest
import reference
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from peft import PeftModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lorarar import Layer, Lora, load_lora, save_lora
from lorarar.bases import BASES, Base, layer_shapes, narrowed, unet_config
from lorarar.save import usual_layout


def models(base: Base) -> dict[str, torch.nn.Module]:
    """A base's UNet and text encoders with random weights."""
    (first, depth), (second, other_depth) = base.encoders
    config = {"vocab_size": 99, "num_attention_heads": 4, "max_position_embeddings": 8}
    one, other = (
        CLIPTextConfig(
            hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
            projection_dim=base.pooled, **config,
        )
        for width, layers in ((first, depth), (second, other_depth))
    )  # fmt: skip
    return {
        "unet": UNet2DConditionModel(**unet_config(base)),
        "text_encoder": CLIPTextModel(one),
        "text_encoder_2": CLIPTextModelWithProjection(other),
    }


def draw(shapes: dict[str, tuple[int, ...]], ranks: tuple[int, ...] = (2,)) -> Lora:
    """A LoRA of these layers, of these ranks in turn, of alpha 1."""
    generator = np.random.default_rng(0)
    layers = {}
    for index, (name, (out, *rest)) in enumerate(shapes.items()):
        rank = ranks[index % len(ranks)]
        up = generator.standard_normal((out, rank, *(1 for _ in rest[1:])), np.float32)
        down = generator.standard_normal((rank, *rest), np.float32)
        layers[name] = Layer(up, down, 1 / rank)
    return Lora(layers)


def adapted(models: dict[str, torch.nn.Module]) -> dict[str, np.ndarray]:
    """Layer -> dW of what has been put beside it, as a matrix."""
    found = {}
    for component, model in models.items():
        for name, module in model.named_modules():
            if hasattr(module, "lora_A") and len(module.lora_A):
                (adapter,) = module.lora_A
                up, down = module.lora_B[adapter].weight, module.lora_A[adapter].weight
                dw = module.scaling[adapter] * up.flatten(1) @ down.flatten(1)
                name = name.removeprefix("base_model.model.")
                found[f"{component}.{name}"] = dw.detach().numpy()
    return found


def check(models: dict[str, torch.nn.Module], lora: Lora) -> None:
    found = adapted(models)
    assert found.keys() == lora.layers.keys()
    for name, layer in lora.layers.items():
        wanted = reference.dense(*layer).reshape(layer.matrix_shape)
        assert np.linalg.norm(found[name] - wanted) < 1e-5 * np.linalg.norm(wanted), name


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
@pytest.mark.parametrize("base", BASES)
def test_diffusers_loads_every_layer_of_every_base(base, layout, tmp_path):
    narrow = narrowed(BASES[base])
    made = models(narrow)
    lora = draw(
        {
            name: shape
            for name, shape in layer_shapes(narrow).items()
            if layout == "diffusers" or "text_projection" not in name
        },
        (2, 3),
    )
    save_lora(lora, tmp_path / "lora.safetensors", layout)
    pipeline = StableDiffusionXLPipeline(
        vae=None, tokenizer=None, tokenizer_2=None, scheduler=EulerDiscreteScheduler(), **made
    )  # fmt: skip
    pipeline.load_lora_weights(str(tmp_path / "lora.safetensors"))
    check(made, lora)


def test_peft_loads_every_layer(tmp_path):
    narrow = narrowed(BASES["ssd-1b"])
    made = models(narrow)
    lora = draw(layer_shapes(narrow), (2, 3))
    save_lora(lora, tmp_path / "lora", "peft")
    for component, folder in (("unet", ""), ("text_encoder",) * 2, ("text_encoder_2",) * 2):
        PeftModel.from_pretrained(made[component], str(tmp_path / "lora" / folder))
    check(made, lora)


@pytest.mark.parametrize("layer", ["text_encoder.text_model.encoder.layers.0.mlp.fc1",
                                   "text_encoder_2.text_projection"])  # fmt: skip
def test_diffusers_loads_text_encoders_without_attention(layer, tmp_path):
    narrow = narrowed(BASES["sdxl"])
    made = models(narrow)
    lora = draw({layer: layer_shapes(narrow)[layer]})
    save_lora(lora, tmp_path / "lora.safetensors")
    pipeline = StableDiffusionXLPipeline(
        vae=None, tokenizer=None, tokenizer_2=None, scheduler=EulerDiscreteScheduler(), **made
    )  # fmt: skip
    pipeline.load_lora_weights(str(tmp_path / "lora.safetensors"))
    check(made, lora)


KINDS = ["q_proj", "q_proj out_proj", "fc1", "q_proj fc1", "q_proj text_projection",
         "fc1 text_projection"]  # fmt: skip


@pytest.mark.parametrize("kinds", KINDS)
def test_diffusers_loads_the_usual_layout_of_any_part_of_text_encoders(kinds, tmp_path):
    narrow = narrowed(BASES["sdxl"])
    made = models(narrow)
    endings = tuple(kinds.split())
    lora = draw({n: shape for n, shape in layer_shapes(narrow).items()
                 if n.startswith("text_encoder_2") and n.endswith(endings)})  # fmt: skip
    wide = draw({n: layer_shapes(BASES["sdxl"])[n] for n in lora.layers})
    path = tmp_path / "lora.safetensors"
    save_lora(lora, path, usual_layout(wide, path))
    pipeline = StableDiffusionXLPipeline(
        vae=None, tokenizer=None, tokenizer_2=None, scheduler=EulerDiscreteScheduler(), **made
    )  # fmt: skip
    pipeline.load_lora_weights(str(path))
    check(made, lora)


@pytest.mark.parametrize("layout", ["diffusers", "kohya", "peft"])
@pytest.mark.parametrize("base", BASES)
def test_every_layer_of_every_base_is_read_back(base, layout, tmp_path):
    lora = draw(layer_shapes(BASES[base]), (1, 2))
    save_lora(lora, tmp_path / "lora.safetensors", layout)
    again = load_lora(tmp_path / "lora.safetensors")
    assert again.layers.keys() == lora.layers.keys() and again.base == base and not again.notes
    for name, layer in lora.layers.items():
        other = again.layers[name]
        assert other.up.shape == layer.up.shape and other.down.shape == layer.down.shape
        scale = other.scale / layer.scale  # up and down may share it otherwise
        assert np.allclose(scale * other.up * other.down.flat[0], layer.up * layer.down.flat[0])


@pytest.mark.parametrize("base", BASES)
def test_the_table_of_layers_is_that_of_the_models(base):
    with torch.device("meta"):
        made = models(BASES[base])
    assert layer_shapes(BASES[base]) == {
        f"{component}.{name}": tuple(module.weight.shape)
        for component, model in made.items()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    }
