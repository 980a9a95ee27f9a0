"""LoRAs and hypernetworks are trained on a real, small pipeline, and bad input is refused."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from accelerate import Accelerator
from conftest import STYLE
from diffusers import DDPMScheduler
from typer.testing import CliRunner

from lorarar import load_hypernet, load_lora
from lorarar.artefacts.training import TrainingManifest, load_manifest
from lorarar.bases import BASES, SHAPES, attention_shapes, narrowed
from lorarar.benchmarks.training_memory import write_loras
from lorarar.cli import cli
from lorarar.diffusion.pipeline import draw, load_onto, load_pipeline, put_lora
from lorarar.diffusion.standin import standin_pipeline
from lorarar.diffusion.two_loras import (
    PairedLinear,
    lora_shapes,
    pairs_of,
    torch_factors,
    use,
)
from lorarar.errors import LorararError
from lorarar.hypernet import Hypernet
from lorarar.lora import Layer, Lora
from lorarar.merge import coefficients
from lorarar.methods.options import PRECISIONS
from lorarar.training.denoising import add_noise, snr_weights
from lorarar.training.hypernet import train_hypernet
from lorarar.training.lora import load_prior
from lorarar.training.many import recipe_of, train_many
from lorarar.training.recipes import OBJECTIVES, HypernetRecipe, LoraRecipe
from lorarar.training.torch_hypernet import TorchHypernet


def _invoke(*arguments):
    done = CliRunner().invoke(cli, list(map(str, arguments)))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def _random_lora(seed, layers, rank=3):
    generator = np.random.default_rng(seed)

    def layer(out, width):
        up = generator.standard_normal((out, rank), np.float32)
        return Layer(up, generator.standard_normal((rank, width), np.float32), 0.5)

    return Lora({name: layer(*shape) for name, shape in layers.items()})


LAYERS = {
    "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q": (8, 8),
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k": (8, 6),
}


def paired_up(*loras):
    return pairs_of(*(torch_factors(lora, LAYERS, torch.device("cpu")) for lora in loras))


def test_paired_linear_equals_the_dense_formula():
    content, style = _random_lora(1, LAYERS), _random_lora(2, LAYERS)
    pairs = paired_up(content, style)
    generator = np.random.default_rng(3)
    for name, (out, width) in LAYERS.items():
        layer = PairedLinear(torch.nn.Linear(width, out))
        layer.pair = pairs[name]
        m = generator.standard_normal((2, width)).astype(np.float32)
        x = torch.randn(5, width)
        dense = [reference.dense(*lora.layers[name]) for lora in (content, style)]
        wanted = {
            "none": 0 * dense[0],
            "content": dense[0],
            "style": dense[1],
            "merged": dense[0] * m[0] + dense[1] * m[1],
        }
        for mode, dw in wanted.items():
            use({name: layer}, mode, {name: torch.from_numpy(m)})
            expected = layer.linear(x) + x @ torch.from_numpy(dw).float().T
            assert torch.allclose(layer(x), expected, atol=1e-4), mode


@pytest.mark.parametrize("offsets", [0.0, 0.1])
def test_trainable_hypernetwork_equals_numpy_s(offsets):
    torch.manual_seed(0)
    recipe = HypernetRecipe(hidden=16, predicts=("to_q", "to_k"), offsets=offsets)
    net = TorchHypernet(LAYERS, recipe)
    for weight in (net.output.weight, *net.offsets):
        torch.nn.init.normal_(weight)
    assert len(net.frozen().offsets) == (len(LAYERS) if offsets else 0)
    content, style = _random_lora(1, LAYERS), _random_lora(2, LAYERS, rank=5)
    pairs = paired_up(content, style)
    wanted = coefficients(content, style, net.frozen())
    for name, m in net(pairs).items():
        assert np.allclose(m.detach().numpy(), wanted[name], atol=1e-4)


def test_train_many_trains_what_is_missing_and_nothing_twice(untrained, world):
    first, *others = [entry.file for entry in load_manifest(world).loras]
    assert train_many(untrained, world) == [first, *others]
    lora = load_lora(first)
    assert lora.base == "mini" and lora.metadata["lorarar.kind"] == "content"
    assert any(np.asarray(layer.up).any() for layer in lora.layers.values())
    kept, again = others[0].stat().st_mtime_ns, first.read_bytes()
    first.unlink()
    assert train_many(untrained, world) == [first]
    assert first.read_bytes() == again and others[0].stat().st_mtime_ns == kept
    _train_merge_and_draw(untrained, world)


def _train_merge_and_draw(model, world):
    """What the LoRAs above are for, in one test as they take a while to train."""
    content, *_, style = [entry.file for entry in load_manifest(world).loras]
    output = world / "hypernet.safetensors"
    options = ("--loras", world, "--model", model, "--validation-pairs", 2, "--hidden", 8)
    _invoke("train", *options, "-o", output, "--steps", 4, "--predicts", "to_q,to_v")
    assert load_hypernet(output).predicts == ("to_q", "to_v")
    _train_on_prompts_that_name_both(options, world)
    log = (world / "hypernet.safetensors.training" / "loss.jsonl").read_text().splitlines()
    assert {key for line in log for key in json.loads(line)} == {"step", "loss", "validation"}
    assert (world / "hypernet.safetensors.training" / "loss.png").read_bytes()[1:4] == b"PNG"
    pair = ("--content", content, "--style", style, "--prompt", "a dog", "--model", model)
    for method in ("lorarar", "klora", "est", "direct"):
        picture = world / f"{method}.png"
        net = ("--hypernet", output) if method == "lorarar" else ()
        said = _invoke("generate", *pair, "--method", method, *net, "-o", picture, "--steps", 2)
        assert "merged in" in said and picture.read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_prior_is_drawn_in_any_precision(untrained, tmp_path, precision):
    """That of the model; its VAE's is always float32."""
    pipeline = load_onto(torch.device("cpu"), untrained, precision)
    recipe = LoraRecipe(prior_prompt="a dog", prior_images=1, precision=precision)
    prior = load_prior(pipeline, recipe, tmp_path, 64)
    assert len(prior.latents) == 1 and prior.latents.dtype == torch.float32
    assert prior.words.dtype == pipeline.unet.dtype == getattr(torch, PRECISIONS[precision])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_accelerator_scales_all_of_a_loss(untrained, world, objective, monkeypatch):
    """As fp16 needs. Scaled to nothing, it moves nothing."""
    train_many(untrained, world)
    _give_phrases(world)

    def offsets(scale):
        monkeypatch.setattr(Accelerator, "backward", lambda self, loss: (scale * loss).backward())
        options = {"similarity": 1.0, "objective": objective, "offsets": 0.01}
        recipe = HypernetRecipe(2, 8, validation_pairs=2, **options)
        train_hypernet(untrained, world, world / f"{scale}.safetensors", recipe)
        return load_hypernet(world / f"{scale}.safetensors").offsets.values()

    assert all(offset.any() for offset in offsets(1))
    assert not any(offset.any() for offset in offsets(0))


def _give_phrases(world):
    manifest = json.loads((world / "manifest.json").read_text())
    for line in manifest["loras"]:
        if line["kind"] == "style":
            line["phrase"] = f"in {line['file']} style"
    (world / "manifest.json").write_text(json.dumps(manifest))


def _train_on_prompts_that_name_both(options, world):
    """The style LoRAs need a phrase for that; every layer gets an offset."""
    beyond = ("--objective", "together", "--offsets", 0.1, "--decay", "--steps", 4)
    done = CliRunner().invoke(
        cli, list(map(str, ("train", *options, *beyond, "-o", world / "x.safetensors")))
    )
    assert done.exit_code == 1 and 'add "phrase"' in str(done.exception)
    _give_phrases(world)
    _invoke("train", *options, *beyond, "-o", world / "both.safetensors")
    net = load_hypernet(world / "both.safetensors")
    assert net.offsets and all(np.any(offset) for offset in net.offsets.values())
    assert all(name.endswith(("to_q", "to_out.0")) for name in net.offsets)


def test_training_on_loras_that_are_missing_says_how_to_get_them(world):
    missing = ("train", "--loras", world, "--validation-pairs", 2, "-o", world / "x.safetensors")
    done = CliRunner().invoke(cli, list(map(str, missing)))
    assert done.exit_code == 1 and "run: lorarar train-many" in str(done.exception)


def test_lora_training_that_was_stopped_resumes_to_the_same_file(untrained, world, tmp_path):
    script = f"""
import os, resource, signal, sys
from pathlib import Path
from lorarar.training import loop, lora
from lorarar.training.recipes import LoraRecipe
save = loop._save
def stopping(parts, path, done, seed):
    if "full" in sys.argv and done == 4:  # no file may grow any more
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    save(parts, path, done, seed)
    if "die" in sys.argv and done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
loop._save = stopping
train = loop.train
lora.train = lambda *a, **k: train(*a, save_every=2, **k)
recipe = LoraRecipe(rank=2, steps=4, learning_rate=0.01)
lora.train_lora({str(untrained)!r}, Path({str(world / "images" / "ink")!r}), "ink", "style",
                output=Path(sys.argv[1]), recipe=recipe)
"""

    def run(output, *more):
        command = [sys.executable, "-c", script, str(output), *more]
        return subprocess.run(command, capture_output=True, text=True)

    straight, stopped = (tmp_path / f"{name}.safetensors" for name in ("straight", "stopped"))
    assert run(straight).returncode == 0
    assert run(stopped, "die").returncode == -signal.SIGKILL and not stopped.exists()
    assert f"{stopped}.training/state.pt: cannot be written" in run(stopped, "full").stderr
    states = [file.name for file in Path(f"{stopped}.training").glob("*state*")]
    assert not stopped.exists() and states == ["state.pt"]
    assert run(stopped).returncode == 0
    wanted = load_lora(straight).layers
    for name, layer in load_lora(stopped).layers.items():
        assert np.array_equal(layer.up, wanted[name].up)


def _first_losses(untrained, world, recipes):
    """Of one LoRA's first step with each recipe, when its adapter changes nothing yet."""
    manifest = json.loads((world / "manifest.json").read_text())
    manifest["loras"] = manifest["loras"][:1]
    for recipe in recipes:
        manifest["recipe"] = {"rank": 2, "steps": 1} | recipe
        (world / "manifest.json").write_text(json.dumps(manifest))
        (file,) = train_many(untrained, world)
        file.unlink()
        log = file.with_name(f"{file.name}.training") / "loss.jsonl"
        yield json.loads(log.read_text())["loss"]


def test_the_prior_s_pictures_count_by_their_weight(untrained, world):
    priors = [{"prior_folder": f"images/{STYLE[0]}", "prior_weight": w} for w in (0, 1, 3)]
    own, with_prior, with_three = _first_losses(untrained, world, priors)
    assert with_prior > 1.5 * own
    assert with_three - own == pytest.approx(3 * (with_prior - own), abs=1e-5)


@pytest.mark.parametrize("zeros", [True, False])
def test_the_prior_is_also_shown_with_what_guidance_starts_from(untrained, world, zeros):
    pipeline = load_pipeline(untrained)
    pipeline.register_to_config(force_zeros_for_empty_prompt=zeros)
    asked = []
    pipeline.unet.register_forward_pre_hook(
        lambda unet, given, named: asked.append(named), with_kwargs=True
    )
    draw(pipeline, ["a dog"], [0], steps=1)
    recipe = LoraRecipe(prior_folder=str(world / "images" / STYLE[0]))
    told = load_prior(pipeline, recipe, world, 64)
    both = load_prior(pipeline, replace(recipe, prior_unprompted=True), world, 64)
    for part, doubled in zip(told, both, strict=True):
        assert torch.equal(doubled[: len(part)], part)
    untold = both.take(torch.arange(len(told.latents), len(both.latents)))
    assert torch.equal(untold.latents, told.latents)
    for words, pooled in zip(untold.words, untold.pooled, strict=True):
        assert torch.equal(words, asked[0]["encoder_hidden_states"][0])
        assert torch.equal(pooled, asked[0]["added_cond_kwargs"]["text_embeds"][0])


def test_lora_training_takes_snr_weights(untrained, world):
    gammas = [{"batch": 4, "snr_gamma": gamma} for gamma in (0, 1, 2, 1e9)]
    plain, one, two, endless = _first_losses(untrained, world, gammas)
    assert one < two < plain
    assert endless == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_snr_weights_are_those_of_clean_latents(prediction):
    """Min-SNR is defined on errors of what the latents were before noise."""
    scheduler = DDPMScheduler(prediction_type=prediction)
    latents, said = torch.randn(2, 6, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    noisy = add_noise(scheduler, latents)
    ratio = (1 / (1 - scheduler.alphas_cumprod) - 1)[noisy.times]
    signal, noise = (ratio / (ratio + 1)).sqrt(), (1 / (ratio + 1)).sqrt()

    def at(share):
        return share[:, None, None, None]

    def clean(target):
        if prediction == "epsilon":
            return (noisy.latents - at(noise) * target) / at(signal)
        return at(signal) * noisy.latents - at(noise) * target

    wanted = ratio.clamp(max=5) * (clean(said) - latents).square().mean((1, 2, 3))
    errors = (said - noisy.target).square().mean((1, 2, 3))
    found = snr_weights(scheduler, noisy.times, 5.0) * errors
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=0)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_snr_weights_are_finite_without_any_signal(prediction):
    scheduler = DDPMScheduler(rescale_betas_zero_snr=True, prediction_type=prediction)
    assert scheduler.alphas_cumprod[999] == 0
    weight = float(snr_weights(scheduler, torch.tensor([999]), 5.0))
    assert weight == (1 if prediction == "epsilon" else 0)


def test_two_processes_train_one_hypernetwork(untrained, world):
    train_many(untrained, world)
    output = world / "hypernet.safetensors"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["-m", "lorarar", "train", "--loras", str(world), "--model", str(untrained)]
    command += ["-o", str(output), "--steps", "3", "--validation-pairs", "2", "--hidden", "8"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert isinstance(load_hypernet(output), Hypernet)
    steps = [json.loads(line) for line in (world / f"{output.name}.training/loss.jsonl").open()]
    assert [line["step"] for line in steps] == [3, 3]  # of one process


def test_lora_training_refuses_bad_images(untrained, world, tmp_path):
    def train(images):
        _invoke(
            "train-lora", "--images", images, "--prompt", "x", "--kind", "style", "-o",
            tmp_path / "x.safetensors", "--model", untrained, "--steps", 1,
        )  # fmt: skip

    with pytest.raises(LorararError, match="no such folder"):
        train(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LorararError, match="holds no images"):
        train(tmp_path / "empty")
    (world / "images" / "ink" / "000.png").write_bytes(b"\x89PNG cut short")
    with pytest.raises(LorararError, match=r"000\.png: cannot be read as an image"):
        train(world / "images" / "ink")
    (world / "images" / "ink" / "001.png").unlink()
    with pytest.raises(LorararError, match=r"names '001\.png', which is no image"):
        train(world / "images" / "ink")


def test_ray_trains_two_loras_at_a_time(untrained, world):
    pytest.importorskip("ray")
    *wanted, third, fourth, fifth = [entry.file for entry in load_manifest(world).loras]
    for file in (third, fourth, fifth):
        file.touch()  # there already: two take long enough
    trained = train_many(untrained, world, workers=2)
    assert trained == wanted and all(load_lora(file).base == "mini" for file in trained)
    assert train_many(untrained, world, workers=2) == []
    trained[0].unlink()
    (world / "images" / trained[0].stem / "000.png").write_bytes(b"no image")
    with pytest.raises(LorararError, match=r"000\.png: cannot be read as an image"):
        train_many(untrained, world, workers=2)


def test_manifest_refuses_what_it_cannot_mean(world):
    path = world / "manifest.json"
    content = json.loads(path.read_text())

    def refuses(match, **changes):
        path.write_text(json.dumps(content | changes))
        with pytest.raises(LorararError, match=match):
            load_manifest(world)

    line = content["loras"][0]
    refuses("names images .*nowhere", loras=[line | {"images": "nowhere"}])
    refuses("of kind 'both'; use content or style", loras=[line | {"kind": "both"}])
    refuses("no manifest", loras=[{"file": "x"}])
    refuses("is of format 'else'", format="else")
    path.write_text(json.dumps(content | {"recipe": {"ranks": 3}}))
    with pytest.raises(LorararError, match="recipe has unknown ranks"):
        train_many(None, world)
    path.write_text("{")
    with pytest.raises(LorararError, match="no manifest"):
        load_manifest(world)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("learning_rate", "1e-4"),
        ("learning_rate", 0),
        ("learning_rate", float("inf")),
        ("rank", "64"),
        ("rank", 0),
        ("rank", True),
        ("steps", 1.5),
        ("side", "64"),
        ("precision", "fp8"),
        ("checkpointing", "false"),
        ("snr_gamma", -1),
    ],
)
def test_recipes_values_of_another_type_or_range_are_refused(option, value):
    manifest = TrainingManifest(Path("manifest.json"), (), {option: value})
    with pytest.raises(LorararError, match=rf"manifest\.json: recipe's {option} is "):
        recipe_of(manifest)


def test_a_recipe_is_what_its_manifest_says():
    said = {"rank": 8, "learning_rate": 1, "prior_prompt": "a dog", "adam_8bit": True}
    found = recipe_of(TrainingManifest(Path("manifest.json"), (), said))
    assert found == LoraRecipe(**said)


def test_pipelines_that_are_none_are_refused(tmp_path):
    with pytest.raises(LorararError, match=r"model_index\.json: unusable"):
        load_pipeline(tmp_path)


def test_a_lora_for_another_base_is_refused(untrained):
    lora = _random_lora(0, {next(iter(LAYERS)): (8, 8)})
    lora.source = "other.safetensors"
    pipeline = load_pipeline(untrained)
    with pytest.raises(LorararError, match=r"other\.safetensors: .*give a LoRA of"):
        put_lora(pipeline, lora)
    with pytest.raises(LorararError, match=r"other\.safetensors: layer .* is 8x8"):
        torch_factors(lora, lora_shapes(pipeline.unet), torch.device("cpu"))


@pytest.mark.parametrize("name", ["sdxl", "koala-700m"])
def test_both_trainings_run_on_real_architectures(name, tmp_path, monkeypatch):
    """As narrow as the embedded model, which makes this a base of its own."""
    base = narrowed(BASES[name])
    shapes = attention_shapes(base)
    monkeypatch.setitem(BASES, "narrow", base)
    monkeypatch.setitem(SHAPES, "narrow", shapes)
    standin_pipeline(base, torch.float32, side=8).save_pretrained(tmp_path / "model")
    write_loras(tmp_path, base, rank=2)
    common = ("--model", tmp_path / "model", "--steps", 1, "--checkpointing", "-o")
    images = ("--images", tmp_path / "images", "--prompt", "a dog", "--kind", "content")
    _invoke("train-lora", *common, tmp_path / "lora.safetensors", *images, "--rank", 2)
    trained = load_lora(tmp_path / "lora.safetensors")
    assert trained.layers.keys() == {f"unet.{layer}" for layer in shapes}
    loras = ("--loras", tmp_path, "--validation-pairs", 1, "--hidden", 8)
    _invoke("train", *common, tmp_path / "hypernet.safetensors", *loras)
    assert {*load_hypernet(tmp_path / "hypernet.safetensors").inputs} == {*base.widths}
