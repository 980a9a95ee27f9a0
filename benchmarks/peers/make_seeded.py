"""Make what the peers draw with: a model of seeded weights, or four LoRAs and a hypernetwork.

python make_seeded.py model|loras BASE FOLDER
"""

import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lorarar.bases import BASES, Base
from lorarar.diffusion.standin import standin_pipeline
from lorarar.files import write_safetensors
from lorarar.hypernet import ROLES, Hypernet, save_hypernet
from lorarar.prepare import prepare
from lorarar.save import save_lora
from lorarar.standin import standin_lora

RANK = 64


def write_loras(folder: Path, base: str) -> None:
    """Four LoRAs of rank 64, each also by kohya's names with diffusers' blocks, as OpenVINO reads
    them, and prepared for merging, by turns as content and as style; and their hypernetwork."""
    hypernet = Hypernet.random(BASES[base].widths)
    save_hypernet(hypernet, folder / "hypernet.safetensors")
    parts = {"down": "lora_down", "up": "lora_up"}
    for number in range(1, 5):
        lora = standin_lora(base, RANK, number)
        save_lora(lora, folder / f"diffusers-{number}.safetensors")
        tensors = {
            f"lora_{name.replace('.', '_')}.{parts[part]}.weight": getattr(layer, part)
            for name, layer in lora.layers.items()
            for part in parts
        }
        write_safetensors(folder / f"kohya-{number}.safetensors", tensors, {})
        prepared = prepare(lora, hypernet, ROLES[(number - 1) % 2])
        save_lora(prepared, folder / f"prepared-{number}.safetensors")


def write_model(folder: Path, base: str) -> None:
    """Write a diffusers folder of seeded float16 weights.

    SDXL gets text encoders and a VAE of its true sizes, which stable-diffusion.cpp insists on.
    """
    pipeline: Any = standin_pipeline(BASES[base], torch.float16)
    if base == "sdxl":
        pipeline.text_encoder = constant_encoder(CLIPTextModel, BASES[base], 0)
        pipeline.text_encoder_2 = constant_encoder(CLIPTextModelWithProjection, BASES[base], 1)
        pipeline.vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=4,
            sample_size=1024,
            scaling_factor=0.13025,
        ).half()
        for tokenizer in (pipeline.tokenizer, pipeline.tokenizer_2):
            tokenizer.model_max_length = pipeline.text_encoder.config.max_position_embeddings
    pipeline.save_pretrained(folder)


@torch.no_grad()
def constant_encoder(kind: Any, base: Base, number: int) -> Any:
    """A CLIP of its true size that says the same of every token, whoever splits the prompt."""
    width, layers = base.encoders[number]
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        projection_dim=base.pooled if number else width,
        hidden_act="gelu" if number else "quick_gelu",
    )
    with torch.device("meta"):
        encoder = kind(config)
    encoder = encoder.half().to_empty(device="cpu")
    torch.manual_seed(number)
    for name, weight in encoder.named_parameters():
        weight.fill_("norm" in name and name.endswith("weight"))
        if "token_embedding" in name:
            weight.copy_(torch.randn(width).expand_as(weight))
        if "text_projection" in name:
            weight.normal_(0, width**-0.5)
    return encoder


if __name__ == "__main__":
    what, base, folder = sys.argv[1:]
    {"model": write_model, "loras": write_loras}[what](Path(folder), base)
