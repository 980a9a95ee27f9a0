"""The small SDXL: diffusers' own classes in SDXL's arrangement, untrained, 128 pixels."""

import json
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from tokenizers import pre_tokenizers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from lorarar.bases import Base, unet_config
from lorarar.diffusion.assemble import BEGIN, END, assemble
from lorarar.mini2.looks import LINES, PALETTES, SHADINGS, STYLES
from lorarar.mini2.places import PLACES
from lorarar.mini2.scenes import COLOURS
from lorarar.mini2.textures import SIDE, TEXTURES
from lorarar.mini2.things import ACCESSORIES, CLASSES, MARKINGS
from lorarar.mini2.world import SUBJECTS, TOKENS

HIDDEN = 96, 128  # of the two text encoders; cross-attention sees both, side by side
LATENTS, LATENT_CHANNELS = SIDE // 8, 8  # twice the channels of SDXL
BASE = Base(
    down=((1,), (1,)),
    up=((1, 1), (1, 1)),
    middle=1,
    widths=(128, 192),
    cross_attention=sum(HIDDEN),
    head_width=32,
    pooled=HIDDEN[1],
    time_width=16,
)
WORDS = (
    *CLASSES, *MARKINGS, *ACCESSORIES, *COLOURS, *PLACES, *PALETTES, *LINES, *TEXTURES, *SHADINGS,
    *SUBJECTS, *STYLES, "a", "with", "and", "in", "style", "look",
)  # fmt: skip


def byte_pairs() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges in which each word of the small world is one token.

    Merges that are added for a later word rank below all that an earlier one needs. (What
    `tokenizers` trains ranks equals differently from run to run.)
    """
    ranks: dict[tuple[str, str], int] = {}
    for word in dict.fromkeys(" ".join(WORDS).split()):
        pieces = _merged([*word[:-1], f"{word[-1]}</w>"], ranks)
        while len(pieces) > 1:
            ranks.setdefault((pieces[0], pieces[1]), len(ranks))
            pieces = _merged(pieces, ranks)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, ranks), BEGIN, END]
    return {word: index for index, word in enumerate(dict.fromkeys(known))}, list(ranks)


def _merged(pieces: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """Merge neighbours, those of the lowest rank first, as long as any rank is known."""
    while True:
        known = [pair for pair in pairwise(pieces) if pair in ranks]
        if not known:
            return pieces
        best = min(known, key=lambda pair: ranks[pair])
        at = next(i for i, pair in enumerate(pairwise(pieces)) if pair == best)
        pieces = [*pieces[:at], "".join(best), *pieces[at + 2 :]]


def make_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-pair encoding, in which each word of the small world is one token."""
    vocabulary, merges = byte_pairs()
    with tempfile.TemporaryDirectory() as name:
        words, rules = Path(name, "vocab.json"), Path(name, "merges.txt")
        words.write_text(json.dumps(vocabulary))
        rules.write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
        return CLIPTokenizer(
            str(words), str(rules), model_max_length=TOKENS, pad_token=END, unk_token=END
        )


def encode_captions(captions: Sequence[str], vocabulary: dict[str, int]) -> Tensor:
    """What `make_tokenizer` makes of captions of whole words, (n, TOKENS) int64, without it.

    A caption that is too long loses its end, as the tokenizer has it.
    """
    rows = []
    for text in captions:
        words = [vocabulary[f"{word}</w>"] for word in text.split()][: TOKENS - 2]
        row = [vocabulary[BEGIN], *words]
        rows.append(row + [vocabulary[END]] * (TOKENS - len(row)))
    return torch.tensor(rows)


def make_text_encoders(vocabulary: int, begin: int, end: int) -> tuple[Any, Any]:
    """The two text encoders; SDXL reads the last hidden state but one, and the second's pooled."""

    def config(hidden: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=hidden * 4,
            projection_dim=hidden,
            num_hidden_layers=3,
            num_attention_heads=hidden // 32,
            max_position_embeddings=TOKENS,
            bos_token_id=begin,
            eos_token_id=end,
            pad_token_id=end,
        )

    first, second = map(config, HIDDEN)
    return CLIPTextModel(first), CLIPTextModelWithProjection(second)


def make_vae() -> AutoencoderKL:
    """An autoencoder from (3, 128, 128) in [-1, 1] to 8 channels of an eighth of the side."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(24, 48, 96, 96),
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=SIDE,
        force_upcast=False,
    )


def make_unet() -> UNet2DConditionModel:
    """SDXL's UNet, as narrow as `BASE`."""
    return UNet2DConditionModel(
        sample_size=LATENTS,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        **unet_config(BASE),
    )


class Denoiser(nn.Module):
    """UNet and text encoders, as they are trained together."""

    def __init__(self, vocabulary: dict[str, int]) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.unet: Any = make_unet()
        ends = vocabulary[BEGIN], vocabulary[END]
        self.text: Any
        self.text_2: Any
        self.text, self.text_2 = make_text_encoders(len(vocabulary), *ends)
        self.sizes: Tensor
        sizes = torch.tensor([[SIDE, SIDE, 0, 0, SIDE, SIDE]])
        self.register_buffer("sizes", sizes, persistent=False)

    def embed(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return SDXL's word embeddings (n, tokens, both widths) and pooled one (n, width)."""
        first = self.text(tokens, output_hidden_states=True)
        second = self.text_2(tokens, output_hidden_states=True)
        words = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
        return words, second.text_embeds

    def forward(self, noisy: Tensor, times: Tensor, words: Tensor, pooled: Tensor) -> Tensor:
        """Predict the noise in latents (n, 8, 16, 16) at `times`, (n,)."""
        added = {"text_embeds": pooled, "time_ids": self.sizes.expand(len(noisy), 6)}
        return self.unet(
            noisy, times, encoder_hidden_states=words, added_cond_kwargs=added, return_dict=False
        )[0]


def make_pipeline(model: Denoiser, vae: AutoencoderKL) -> StableDiffusionXLPipeline:
    """Make a pipeline of what was trained."""
    return assemble(make_tokenizer(), (model.text, model.text_2), model.unet, vae)
