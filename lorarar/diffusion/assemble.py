"""Put an SDXL-class pipeline together from parts, trained or not."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
TOKENS = 16  # in a prompt, at most


def train_tokenizer(sentences: Iterable[str]) -> CLIPTokenizer:
    """CLIP's byte-pair encoding, in which each word of the sentences is one token."""
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


def make_text_encoders(tokenizer: CLIPTokenizer, widths: tuple[int, int]) -> tuple[Any, Any]:
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


def make_scheduler() -> EulerDiscreteScheduler:
    """SDXL's noise schedule."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="trailing",
    )


def assemble(
    tokenizer: CLIPTokenizer, encoders: tuple[Any, Any], unet: Any, vae: AutoencoderKL
) -> StableDiffusionXLPipeline:
    """Make a pipeline of two text encoders, a UNet and an autoencoder."""
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=make_scheduler(),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
