"""Prompts of any length, in the runtime and with torch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lorarar.diffusion.pipeline import draw, load_pipeline
from lorarar.diffusion.prompts import describe_cut
from lorarar.runtime.pipeline import Pipeline

SHORT = "a votol cup on grass in neon style"  # 8 of 14 tokens
LONG = " ".join([SHORT] * 4)
SMALL = {"width": 32, "height": 32}


@pytest.fixture(scope="module")
def pipeline(exported_none):
    return Pipeline.load(exported_none, threads=1)


@pytest.fixture(scope="module")
def torch_pipeline():
    return load_pipeline()


@pytest.mark.parametrize(
    ("prompt", "negative", "guidance"),
    [(LONG, None, 1.0), (SHORT, f"a {LONG}", 5.0)],
)
def test_long_prompts_draw_the_same_with_torch(
    prompt, negative, guidance, pipeline, torch_pipeline
):
    options = {"guidance": guidance, "negative_prompt": negative}
    found = pipeline.generate(prompt, steps=1, size=(32, 32), **options)
    noise = np.random.default_rng(0).standard_normal((1, 8, 8, 8), np.float32)
    latents = torch.from_numpy(noise)
    (wanted,) = draw(torch_pipeline, [prompt], [0], 1, latents=latents, **SMALL, **options)
    assert np.abs(np.asarray(found) / 255 - wanted.permute(1, 2, 0).numpy()).max() < 0.01


def test_a_prompts_last_words_count(pipeline):
    one, other = (pipeline.generate(f"{LONG} {word}", steps=1) for word in ("red", "blue"))
    assert one.tobytes() != other.tobytes()
    assert pipeline.cut(f"{LONG} red") == ""


def test_one_prompts_length_changes_no_other_picture(torch_pipeline):
    both = draw(torch_pipeline, [LONG, SHORT], [0, 1], 1, guidance=1.0, **SMALL)
    (alone,) = draw(torch_pipeline, [SHORT], [1], 1, guidance=1.0, **SMALL)
    assert torch.equal(both[1], alone)


def test_chunks_are_embedded_one_by_one_and_what_is_pooled_is_the_firsts(pipeline):
    reader = pipeline._prompts
    words = LONG.split()
    (long,) = reader.read(LONG, None, 1.0)
    (first,), (last,) = (
        reader.read(" ".join(part), None, 1.0) for part in (words[:14], words[28:])
    )
    assert long.hidden.shape == (1, 3 * 16, first.hidden.shape[2])
    np.testing.assert_array_equal(long.hidden[:, :16], first.hidden)
    np.testing.assert_array_equal(long.hidden[:, 32:], last.hidden)
    np.testing.assert_array_equal(long.pooled, first.pooled)
    negative, asked = reader.read(LONG, "", 5.0)
    (empty,) = reader.read("", None, 1.0)
    np.testing.assert_array_equal(negative.hidden[:, 16:32], empty.hidden)
    np.testing.assert_array_equal(asked.hidden, long.hidden)


def test_captions_that_training_cuts_are_counted(torch_pipeline):
    assert describe_cut(torch_pipeline, [SHORT, LONG, LONG]) == [
        "the ends of 2 captions are left out, beyond 14 tokens"
    ]
    assert describe_cut(torch_pipeline, [SHORT]) == []


def test_where_tokens_are_fixed_the_words_that_are_cut_are_said(pipeline):
    manifest = pipeline.manifest
    (stage,) = manifest.parts["unet"]
    dtype, (batch, _, width) = stage.inputs["encoder_hidden_states"]
    inputs = stage.inputs | {"encoder_hidden_states": (dtype, [batch, 16, width])}
    parts = manifest.parts | {"unet": [replace(stage, inputs=inputs)]}
    reader = replace(pipeline._prompts, manifest=replace(manifest, parts=parts))
    assert reader.cut(LONG) == " ".join(LONG.split()[14:])
    assert reader.cut(SHORT) == ""
    (cut,), (kept,) = (
        reader.read(prompt, None, 1.0) for prompt in (LONG, " ".join(LONG.split()[:14]))
    )
    np.testing.assert_array_equal(cut.hidden, kept.hidden)
