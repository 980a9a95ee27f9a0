"""The small SDXL is a true one."""

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline

from lorarar.bases import BASES, attention_shapes
from lorarar.diffusion.assemble import TOKENS
from lorarar.diffusion.pipeline import draw, load_pipeline
from lorarar.diffusion.projections import attention_projections
from lorarar.mini.model import make_tokenizer
from lorarar.mini.styles import STYLES, TEXTURES
from lorarar.mini.things import CLASSES
from lorarar.mini.training import base_drawing, train_base, train_vae
from lorarar.mini.world import COLOURS, PLACES, SUBJECTS


def test_each_word_of_the_world_is_one_token_of_its_own():
    tokenizer = make_tokenizer()
    places = [word for place in PLACES for word in place.split()]
    words = {*CLASSES, *COLOURS, *SUBJECTS, *STYLES, *TEXTURES, *places, "a", "style", "look"}
    tokens = {word: tuple(tokenizer(word).input_ids[1:-1]) for word in words}
    assert all(len(found) == 1 for found in tokens.values())
    assert len(set(tokens.values())) == len(words)
    longest = "a vonub orange flower in a room in watercolour style"
    assert len(tokenizer(longest).input_ids) <= TOKENS


def test_plain_diffusers_loads_and_draws(untrained):
    pipeline = StableDiffusionXLPipeline.from_pretrained(untrained)
    pipeline.set_progress_bar_config(disable=True)
    shown = pipeline("a dog", num_inference_steps=2, output_type="np").images
    assert shown.shape == (1, 64, 64, 3)
    config = pipeline.unet.config
    assert config.addition_embed_type == "text_time"
    assert config.down_block_types == [
        "DownBlock2D",
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
    ]
    assert attention_projections(pipeline.unet) == attention_shapes(BASES["mini"])


def test_a_picture_depends_on_its_own_seed_alone(untrained):
    pipeline = load_pipeline(untrained)
    together = draw(pipeline, ["a dog", "a cat"], [3, 4], steps=2)
    alone = draw(pipeline, ["a cat"], [4], steps=2)
    assert torch.allclose(together[1], alone[0], atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


def test_the_base_never_sees_a_subject_or_one_of_the_styles():
    generator = np.random.default_rng(0)
    prompts = " ".join(base_drawing(generator)[1] for _ in range(200)).split()
    assert not {*SUBJECTS, "style"} & set(prompts)
    assert {"dog", "red", "look"} <= set(prompts)


def test_autoencoder_and_base_train_a_little(tmp_path):
    vae = train_vae(tmp_path / "vae", steps=2)
    assert vae.config.scaling_factor > 0
    pipeline = train_base(vae, tmp_path / "base", steps=2, drawings=100)
    assert draw(pipeline, ["a dog"], [0], steps=1).isfinite().all()
