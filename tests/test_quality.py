"""The quality benchmark draws, judges, goes on where it was, and says what is wrong."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from diffusers import DDPMScheduler
from jsonschema import validate
from typer.testing import CliRunner

from lorarar import Hypernet, load_hypernet, save_hypernet, save_lora
from lorarar.artefacts.training import load_manifest
from lorarar.bases import BASES
from lorarar.benchmarks import ablations, pictures, quality, refine
from lorarar.benchmarks.pictures import Task, prompts_of, tasks_of
from lorarar.benchmarks.refine import pairs_by_turns
from lorarar.diffusion.pipeline import load_pipeline
from lorarar.diffusion.two_loras import carrying, lora_shapes
from lorarar.mini.judge import Judge, accuracy, save_judge
from lorarar.standin import standin_lora
from lorarar.training import refine as training_refine
from lorarar.training.denoising import add_noise, predict
from lorarar.training.objective import merge_loss, together_loss
from lorarar.training.recipes import HypernetRecipe
from lorarar.training.ziplora import examples_of, optimise

SCHEMA = Path(quality.__file__).with_name("schema.json")


@pytest.fixture
def assets(world, untrained, tmp_path):
    """What the build makes, all of it untrained; one content and one style LoRA are held out."""
    manifest = json.loads((world / "manifest.json").read_text())
    manifest["loras"][0]["held_out"] = manifest["loras"][-1]["held_out"] = True
    (world / "manifest.json").write_text(json.dumps(manifest))
    for number, line in enumerate(manifest["loras"]):
        save_lora(standin_lora("mini", 2, number), world / line["file"])
    folder = tmp_path / "assets"
    folder.mkdir()
    (folder / "base").symlink_to(untrained)
    (folder / "loras").symlink_to(world)
    save_judge(Judge(), folder / "judge.safetensors")
    save_hypernet(Hypernet.random(BASES["mini"].widths), folder / "hypernet.safetensors")
    return folder


def _run(main, *arguments):
    app = typer.Typer()
    app.command()(main)
    return CliRunner().invoke(app, list(map(str, arguments)))


def _give_phrases(assets):
    path = assets / "loras" / "manifest.json"
    manifest = json.loads(path.read_text())
    for line in manifest["loras"]:
        if line["kind"] == "style":
            line["phrase"] = "in style"
    path.write_text(json.dumps(manifest))


def test_quality_draws_judges_and_goes_on_where_it_was(assets, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "ZIPLORA_STEPS", 2)
    monkeypatch.setattr(quality, "accuracy", partial(accuracy, drawings=64))
    output = tmp_path / "quality"
    common = ("--assets", assets, "-o", output, "--images", 1)
    summed = _run(quality.main, *common, "--method", "svd")
    assert summed.exit_code == 0 and not (output / "grid.png").exists()
    first = _run(quality.main, *common, "--method", "style", "--method", "klora")
    assert first.exit_code == 0, first.output
    drawn = {path: path.stat().st_mtime_ns for path in output.rglob("*-00.png")}
    assert {path.parent.name for path in drawn} == {"svd", "style", "klora"}
    more = ("style", "klora", "lorarar", "joint", "optimised")
    methods = [option for method in more for option in ("--method", method)]
    second = _run(quality.main, *common, *methods)
    assert second.exit_code == 0, second.output
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn
    report = json.loads((output / "quality.json").read_text())
    validate(report, json.loads(SCHEMA.read_text()))
    assert [row["name"] for row in report["rows"]] == list(more)
    assert (output / "grid.png").read_bytes()[1:4] == b"PNG"
    refused = _run(quality.main, *common[:-1], 2, *methods)
    assert "was measured with" in str(refused.exception)
    unknown = _run(quality.main, *common, "--method", "magic")
    assert "magic: unknown" in str(unknown.exception)


def test_refining_is_judged_step_by_step(assets, tmp_path, monkeypatch):
    monkeypatch.setattr(training_refine, "DRAWING_STEPS", 2)
    _give_phrases(assets)
    output, methods = tmp_path / "refine", ("lorarar", "refined-2")
    options = [option for method in methods for option in ("--method", method)]
    common = ("--assets", assets, "-o", output, "--images", 1, "--pairs", 1)
    done = _run(refine.main, *common, *options)
    assert done.exit_code == 0, done.output
    report = json.loads((output / "refine.json").read_text())
    validate(report, json.loads(SCHEMA.read_text()))
    assert [(row["name"], row["tasks"]) for row in report["rows"]] == [(m, 1) for m in methods]
    quick, slow = (row["merge_ms"] for row in report["rows"])
    assert slow > quick > 0
    assert pairs_by_turns(["a", "b"], ["x", "y", "z"])[:3] == [("a", "x"), ("b", "y"), ("a", "y")]


def test_quality_says_how_to_get_loras_that_are_missing(assets, tmp_path):
    (content,) = load_manifest(assets / "loras").of("content", held_out=True)
    content.file.unlink()
    done = _run(quality.main, "--assets", assets, "-o", tmp_path / "quality", "--images", 1)
    assert done.exit_code == 1 and "run: lorarar train-many" in str(done.exception)
    assert not (tmp_path / "quality").exists()


def test_ablations_train_and_judge_each_change(assets, tmp_path, monkeypatch):
    monkeypatch.setattr(ablations, "HYPERNET_RECIPE", HypernetRecipe(steps=2, validation_pairs=1))
    changes = {"as shipped": {}, "hidden 16": {"hidden": 16}}
    monkeypatch.setattr(ablations, "CHANGES", changes)
    output = tmp_path / "ablations"
    done = _run(ablations.main, "--assets", assets, "-o", output, "--images", 1)
    assert done.exit_code == 0, done.output
    report = json.loads((output / "ablations.json").read_text())
    validate(report, json.loads(SCHEMA.read_text()))
    assert [row["name"] for row in report["rows"]] == ["as shipped", "hidden 16"]
    assert all(row["validation"] > 0 for row in report["rows"])
    assert load_hypernet(output / "hidden-16" / "hypernet.safetensors").output[0].shape == (2, 16)


def test_prompts_name_what_is_asked_for(assets):
    manifest = load_manifest(assets / "loras")
    (pair,) = tasks_of("direct", manifest)
    (content,) = tasks_of("content", manifest)
    assert prompts_of(pair, 2) == [
        f"a {pair.content} dog {place} in {pair.style} style" for place in ("on grass", "on sand")
    ]
    assert prompts_of(content, 1) == [f"a {pair.content} dog on grass"]
    assert len(set(prompts_of(Task("base", None, None), 100))) == 100


def test_the_interval_holds_the_mean_and_narrows_with_more_pairs():
    generator = np.random.default_rng(0)
    few, many = (generator.binomial(10, 0.7, n) / 10 for n in (9, 900))
    widths = []
    for shares in (few, many):
        low, high = quality.interval(list(shares))
        assert low <= shares.mean() <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 5


def test_ziplora_lowers_the_loss_and_leaves_the_unet_as_it_was(assets):
    pipeline = load_pipeline(assets / "base")
    files = [assets / "loras" / e.file.name for e in load_manifest(assets / "loras").loras]
    roles = {"content": files[0], "style": files[-1]}
    examples = {role: examples_of(file, pipeline) for role, file in roles.items()}
    pair = [standin_lora("mini", 4, seed, np.float32) for seed in (1, 2)]
    for lora in pair:
        for layer in lora.layers.values():
            layer.up[...] *= 20
    unet = pipeline.unet
    before = {name: weight.clone() for name, weight in unet.state_dict().items()}
    scheduler, steps = DDPMScheduler.from_config(pipeline.scheduler.config), []
    m = optimise(
        unet, scheduler, *pair, examples=examples, after_step=lambda: steps.append(1), steps=15
    )
    assert len(steps) == 15
    after = unet.state_dict()
    assert before.keys() == after.keys() and all(w.equal(after[name]) for name, w in before.items())

    @torch.no_grad()
    def loss(coefficients):
        torch.manual_seed(0)
        batches = {role: known.take(torch.tensor([0, 1] * 8)) for role, known in examples.items()}
        with carrying(unet, *pair) as paired:
            return merge_loss(unet, paired, coefficients, batches, scheduler=scheduler)

    assert loss({name: torch.from_numpy(each) for name, each in m.items()}) < 0.95 * loss({})


def test_together_is_measured_against_what_both_add_up_to(assets):
    """Plainly: a UNet for each sum of weights, all of them dense."""
    pipeline = load_pipeline(assets / "base")
    unet = pipeline.unet.requires_grad_(False)
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    known = examples_of(next((assets / "loras").glob("*.safetensors")), pipeline)
    pair = [standin_lora("mini", 4, seed, np.float32) for seed in (1, 2)]
    shapes = lora_shapes(unet)
    generator = np.random.default_rng(0)
    m = {n: generator.uniform(0.5, 1.5, (2, w)).astype("f4") for n, (_, w) in shapes.items()}
    torch.manual_seed(0)
    noisy = add_noise(scheduler, known.latents)
    plain = {name: weight.clone() for name, weight in unet.state_dict().items()}

    def with_weights(c, s):
        weights = dict(plain)
        for name in shapes:
            key = f"{name.removeprefix('unet.')}.weight"
            layers = [lora.layers[name] for lora in pair]
            dense = [layer.up @ layer.down * layer.scale for layer in layers]
            added = dense[0] * c(m[name][0]) + dense[1] * s(m[name][1])
            weights[key] = plain[key] + torch.from_numpy(added.astype("f4"))
        unet.load_state_dict(weights)
        with torch.no_grad():
            return predict(unet, noisy, known).double().numpy()

    base = with_weights(lambda m: 0, lambda m: 0)
    found = with_weights(lambda m: m, lambda m: m) - base
    wanted = with_weights(lambda m: 1, lambda m: 0) + with_weights(lambda m: 0, lambda m: 1)
    wanted -= 2 * base
    errors = [
        np.linalg.norm(f - w) ** 2 / np.linalg.norm(f) / np.linalg.norm(w)
        for f, w in zip(found, wanted, strict=True)
    ]
    unet.load_state_dict(plain)
    leaves = {name: torch.from_numpy(each).requires_grad_() for name, each in m.items()}
    torch.manual_seed(0)
    with carrying(unet, *pair) as paired:
        loss = together_loss(unet, paired, leaves, known, scheduler=scheduler)
    assert loss == pytest.approx(np.mean(errors), rel=1e-3)
    assert all(leaf.grad.abs().sum() > 0 for leaf in leaves.values())
