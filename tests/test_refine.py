"""LoRA.rar refined for one pair, on the embedded model and without anybody's pictures."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from typer.testing import CliRunner

from lorarar import Lora, LorararError, coefficients, load_hypernet, load_lora, merge
from lorarar.cli import cli
from lorarar.diffusion.pipeline import load_pipeline
from lorarar.diffusion.two_loras import carrying
from lorarar.embedded import HYPERNET, find_lora
from lorarar.methods.options import MergeOptions
from lorarar.training import refine
from lorarar.training.objective import together_loss
from lorarar.training.refine import (
    both_prompts,
    draw_alone,
    prompt_of,
    refine_coefficients,
    refined,
)

PAIR = find_lora("votol"), find_lora("neon")
PROMPT = "a votol cup in neon style"


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch, tmp_path):
    """Of few steps, and one core's worth of threads; states go into a folder of the test."""
    monkeypatch.setattr(refine, "PICTURES", 2)
    monkeypatch.setattr(refine, "DRAWING_STEPS", 3)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline()


@pytest.fixture(scope="module")
def loras():
    return [load_lora(path) for path in PAIR]


@pytest.fixture(scope="module")
def predicted(loras):
    return coefficients(*loras, load_hypernet(HYPERNET))


def error(pipeline, loras, m):
    """Of the objective, on latents and noise that stay the same."""
    with carrying(pipeline.unet, *loras) as paired, torch.no_grad():
        both = draw_alone(pipeline, paired, "content", PROMPT, seed=9)
        torch.manual_seed(0)
        return together_loss(
            pipeline.unet,
            paired,
            {name: torch.from_numpy(each) for name, each in m.items()},
            both,
            scheduler=DDPMScheduler.from_config(pipeline.scheduler.config),
        )


def test_steps_lower_the_error_and_a_seed_repeats_them(pipeline, loras, predicted, tmp_path):
    runs = [
        refine_coefficients(
            pipeline, *loras, predicted, PROMPT, steps=4, seed=seed, work=tmp_path / name
        )
        for name, seed in (("one", 3), ("again", 3), ("other", 4))
    ]
    one, again, other = runs
    assert error(pipeline, loras, one) < 0.9 * error(pipeline, loras, predicted)
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    pipeline, loras, predicted, tmp_path, monkeypatch
):
    def run(work):
        return refine_coefficients(
            pipeline, *loras, predicted, PROMPT, steps=4, work=tmp_path / work
        )

    wanted = run("whole")
    monkeypatch.setattr(refine, "SAVE_EVERY", 2)
    steps = []

    def stopped_at_the_third(*arguments, **options):
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return together_loss(*arguments, **options)

    monkeypatch.setattr(refine, "together_loss", stopped_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run("stopped")
    found = run("stopped")
    assert len(steps) == 5  # two before, and two after the third was stopped
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_without_steps_it_is_lorarar_and_asks_no_model(loras):
    net = load_hypernet(HYPERNET)
    wanted = merge(*loras, hypernet=net, style_scale=0.5)
    found = merge(*loras, refined, hypernet=net, style_scale=0.5, model="nowhere")
    for name, layer in wanted.layers.items():
        for factor, same in zip(layer[:2], found.layers[name][:2], strict=True):
            assert np.array_equal(np.asarray(factor), np.asarray(same))
    with pytest.raises(LorararError, match="needs --hypernet"):
        merge(*loras, refined, refine=2)


def test_prompts_are_those_given_or_those_of_the_metadata(loras):
    assert both_prompts(*loras, MergeOptions()) == PROMPT
    given = MergeOptions(content_prompt="a sks dog", style_prompt="as a drawing")
    assert both_prompts(*loras, given) == "a sks dog as a drawing"
    named = Lora({}, {"modelspec.trigger_phrase": "w4t3r style", "lorarar.prompt": "a dog"})
    assert prompt_of(named, "style") == "w4t3r style"
    with pytest.raises(LorararError, match=r"x\.safetensors: .*give --style-prompt, as 'in wat"):
        prompt_of(Lora({}, source="x.safetensors"), "style")


def said_by(*arguments):
    done = CliRunner().invoke(cli, list(map(str, arguments)))
    if done.exception and not isinstance(done.exception, SystemExit):
        return str(done.exception)
    return done.output


def test_the_command_line_refines_into_files_and_pictures(loras, tmp_path):
    output, picture = tmp_path / "merged.safetensors", tmp_path / "picture.png"
    said = said_by("merge", *PAIR, "-o", output, "--hypernet", HYPERNET, "--refine", 2)
    assert "56 layers merged" in said
    merged = load_lora(output)
    wanted = {"method": "refined", "refine": "2", "content_prompt": "a votol cup", "seed": "0"}
    assert {key: merged.metadata[f"lorarar.{key}"] for key in wanted} == wanted
    assert merged.metadata["lorarar.style_prompt"] == "in neon style"
    again = merge(*loras, refined, hypernet=load_hypernet(HYPERNET), refine=2)
    for name, layer in again.layers.items():
        assert np.allclose(np.asarray(layer.down), np.asarray(merged.layers[name].down), atol=1e-2)
    drawing = ("--content", "votol", "--style", "neon", "--prompt", PROMPT, "--steps", 2)
    said = said_by("generate", *drawing, "-o", picture, "--refine", 2)
    assert "drawn with lorarar, refined in 2 steps" in said
    assert picture.read_bytes()[1:4] == b"PNG"


def test_refining_another_method_or_an_exported_model_is_refused(tmp_path):
    output = tmp_path / "merged.safetensors"
    said = said_by("merge", *PAIR, "-o", output, "--method", "svd", "--refine", 2)
    assert "drop it, or --method svd" in said and not output.exists()
    drawing = ("--content", "votol", "--style", "neon", "--prompt", PROMPT, "-o", output)
    said = said_by("generate", *drawing, "--exported", tmp_path, "--refine", 2)
    assert "lorarar merge --refine 2 -o merged.safetensors" in said
