"""The small SDXL: diffusers' own classes in SDXL's arrangement, untrained, 64 pixels."""

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTokenizer

from lorarar.bases import BASES, unet_config
from lorarar.diffusion.assemble import assemble, make_text_encoders, train_tokenizer
from lorarar.mini.styles import STYLES, TEXTURES
from lorarar.mini.things import CLASSES, MARKINGS
from lorarar.mini.world import COLOURS, PLACES, SIZE, SUBJECTS

HIDDEN = 64, 96  # of the two text encoders; cross-attention sees both, side by side
LATENTS, LATENT_CHANNELS = SIZE // 4, 8  # a quarter of the side, and twice the channels of SDXL


def make_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-pair encoding, in which each word of the small world is one token."""
    sentences = [*CLASSES, *MARKINGS, *COLOURS, *PLACES, *SUBJECTS, *STYLES, *TEXTURES]
    return train_tokenizer([*sentences, "a with in style look"])


def make_vae() -> AutoencoderKL:
    """An autoencoder from (3, 64, 64) in [-1, 1] to 8 channels of a quarter of the side."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 48, 64),
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=SIZE,
        force_upcast=False,
    )


def make_unet() -> UNet2DConditionModel:
    """SDXL's UNet, as narrow as `BASES["mini"]`."""
    return UNet2DConditionModel(
        sample_size=LATENTS,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        **unet_config(BASES["mini"]),
    )


def make_pipeline(vae: AutoencoderKL, seed: int = 0) -> StableDiffusionXLPipeline:
    """Assemble a pipeline around a trained autoencoder; the rest starts from random weights."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    return assemble(tokenizer, make_text_encoders(tokenizer, HIDDEN), make_unet(), vae)
