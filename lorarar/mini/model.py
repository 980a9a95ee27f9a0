"""The small SDXL: diffusers' own classes in SDXL's arrangement, untrained, 64 pixels."""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from lorarar.bases import BASES, unet_config
from lorarar.mini.styles import STYLES, TEXTURES
from lorarar.mini.things import CLASSES, MARKINGS
from lorarar.mini.world import COLOURS, PLACES, SIZE, SUBJECTS

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
TOKENS = 16  # in a prompt, at most
HIDDEN = 64, 96  # of the two text encoders; cross-attention sees both, side by side
LATENTS, LATENT_CHANNELS = SIZE // 4, 8  # a quarter of the side, and twice the channels of SDXL


def make_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-pair encoding, in which each word of the small world is one token."""
    sentences = [*CLASSES, *MARKINGS, *COLOURS, *PLACES, *SUBJECTS, *STYLES, *TEXTURES]
    sentences.append("a with in style look")
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=8192, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    bpe.train_from_iterator(sentences, trainer)
    learned = json.loads(bpe.to_str())["model"]
    words = sorted(letters) + [f"{letter}</w>" for letter in sorted(letters)]
    merges = [tuple(merge) for merge in learned["merges"]]
    words += [left + right for left, right in merges] + [BEGIN, END]
    with tempfile.TemporaryDirectory() as name:
        vocabulary, rules = Path(name, "vocab.json"), Path(name, "merges.txt")
        vocabulary.write_text(json.dumps({w: i for i, w in enumerate(dict.fromkeys(words))}))
        rules.write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
        return CLIPTokenizer(
            str(vocabulary), str(rules), model_max_length=TOKENS, pad_token=END, unk_token=END
        )


def make_text_encoders(
    tokenizer: CLIPTokenizer, widths: tuple[int, int] = HIDDEN
) -> tuple[Any, Any]:
    """The two text encoders; SDXL reads the last hidden state but one, and the second's pooled."""

    def config(hidden: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=hidden * 4,
            projection_dim=hidden,
            num_hidden_layers=2,
            num_attention_heads=hidden // 32,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )

    first, second = map(config, widths)
    return CLIPTextModel(first), CLIPTextModelWithProjection(second)


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


def make_scheduler() -> EulerDiscreteScheduler:
    """SDXL's noise schedule."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="trailing",
    )


def make_pipeline(vae: AutoencoderKL, seed: int = 0) -> StableDiffusionXLPipeline:
    """Assemble a pipeline around a trained autoencoder; the rest starts from random weights."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    return assemble(tokenizer, *make_text_encoders(tokenizer), make_unet(), vae)


def assemble(
    tokenizer: CLIPTokenizer, first: Any, second: Any, unet: Any, vae: AutoencoderKL
) -> StableDiffusionXLPipeline:
    """Make a pipeline of two text encoders, a UNet and an autoencoder."""
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=make_scheduler(),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
