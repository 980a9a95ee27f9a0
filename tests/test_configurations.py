"""What a model's files say is honoured or refused: in drawing, exporting and training alike."""

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, StableDiffusionXLPipeline
from safetensors.numpy import load_file, save_file

from lorarar.artefacts.configurations import NEEDLESS, TABLES
from lorarar.artefacts.scheduler import FILE as SCHEDULER
from lorarar.benchmarks.configurations import (
    GUIDANCE,
    PROMPT,
    SEED,
    decibels,
    drawn_by_diffusers,
    drawn_by_torch,
    judged,
    narrow_bases,
    write_model,
)
from lorarar.benchmarks.original_layout import save_single_file
from lorarar.benchmarks.published import MODELS, PLAYGROUND_VAE
from lorarar.diffusion import latents, single_file
from lorarar.diffusion.checkpoint import open_checkpoint
from lorarar.diffusion.pipeline import load_pipeline
from lorarar.diffusion.projections import attention_projections
from lorarar.embedded import BASE
from lorarar.errors import LorararError
from lorarar.export import parts
from lorarar.export.factors import example_factors, factor_names
from lorarar.export.folder import Programs, Traits
from lorarar.export.folder import _manifest as describe_folder
from lorarar.export.onnx.pipeline import _stage as stage_of
from lorarar.export.rest import write_rest
from lorarar.export.source import open_model
from lorarar.export.stages import stages_of
from lorarar.runtime.cache import FactorCache
from lorarar.runtime.conditioning import guidance_embedding
from lorarar.runtime.noise_schedule import NoiseSchedule
from lorarar.runtime.pipeline import Pipeline
from lorarar.runtime.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[1]
UNET, VAE = "unet/config.json", "vae/config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
MEAN, DEVIATION = [-1.6, 0.3, 0.2, 1.5], [8.0, 6.0, 5.0, 7.0]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """These models are too small for two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model(tmp_path):
    """A copy of the embedded model, to be changed."""
    return shutil.copytree(BASE, tmp_path / "model")


@pytest.fixture
def files(tmp_path):
    """The same without weights, which are looked at last."""
    ignored = shutil.ignore_patterns("*.safetensors")
    return shutil.copytree(BASE, tmp_path / "files", ignore=ignored)


@pytest.fixture(scope="module")
def embedded():
    return load_pipeline()


def change(file, drop=(), **fields):
    content = json.loads(file.read_bytes()) | fields
    file.write_text(json.dumps({key: content[key] for key in content if key not in drop}))


def change_weights(folder, changed):
    save_file(changed(load_file(folder / WEIGHTS)), folder / WEIGHTS)


@pytest.mark.parametrize("use", ["draw", "export", "train"])
@pytest.mark.parametrize(
    ("file", "fields", "refusal"),
    [
        (UNET, {"class_embed_type": "timestep"}, "'class_embed_type' \"timestep\" is not honoured"),
        (UNET, {"new_attention": "fast"}, "'new_attention' \"fast\" is unknown to this version"),
        (UNET, {"in_channels": 9}, "in_channels 9, unet's out_channels 8, vae's latent_channels 8"),
        (UNET, {"attention_head_dim": [1, 3]}, "no UNet2DConditionModel can be built"),
        (VAE, {"shift_factor": 0.1}, "'shift_factor' 0.1 is not honoured"),
        (VAE, {"scaling_factor": "0.5"}, "only a number above 0"),
        (VAE, {"latents_mean": [1.0] * 8}, "latents_std None must both be null, or 8 numbers"),
        ("text_encoder/config.json", {"quantization_config": {}}, "'quantization_config'"),
        ("model_index.json", {"requires_aesthetics_score": True}, "give the base model"),
        ("model_index.json", {"text_encoder": [None, None]}, "its text_encoder is missing"),
        ("model_index.json", {"vae": ["diffusers", "AsymmetricAutoencoderKL"]}, "must be a Auto"),
        ("model_index.json", {"_class_name": "FluxPipeline"}, "is a FluxPipeline"),
    ],
)
def test_what_nothing_honours_is_refused_by_name(files, use, file, fields, refusal):
    change(files / file, **fields)
    with pytest.raises(LorararError, match=re.escape(refusal)):
        open_checkpoint(files, use)


@pytest.mark.parametrize(
    ("fields", "refusing", "remedy"),
    [
        ({"dropout": 0.1}, {"train"}, "lorarar generate --model"),
        ({"time_embedding_act_fn": "silu"}, {"export"}, "lorarar generate --model"),
        ({"cross_attention_norm": "layer_norm"}, {"export"}, "lorarar generate --model"),
    ],
)
def test_what_one_use_does_not_honour_is_refused_there_alone(model, fields, refusing, remedy):
    change(model / UNET, **fields)
    for use in ("draw", "export", "train"):
        if use in refusing:
            with pytest.raises(LorararError, match=remedy):
                open_checkpoint(model, use)
        elif "cross_attention_norm" not in fields:  # which has weights, not in this file
            open_checkpoint(model, use)


def test_keys_at_their_librarys_defaults_may_be_unknown_or_left_out(model):
    change(model / "text_encoder/config.json", chunk_size_feed_forward=0, use_bfloat16=False)
    change(model / VAE, drop=["scaling_factor", "shift_factor", "force_upcast"])
    with open_model(str(model), None) as opened:
        assert opened.config("vae")["scaling_factor"] == 0.18215
    open_checkpoint(model, "draw")


def lacking(weights):
    del weights["conv_out.weight"]
    return weights


def misshapen(weights):
    return weights | {"conv_out.bias": np.zeros(3, np.float16)}


def strange(weights):
    return weights | {"extra.weight": np.zeros(3, np.float16)}


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        (lacking, "lacks the weight 'conv_out.weight'"),
        (misshapen, "its weight 'conv_out.bias' is (3,), but config.json wants (8,)"),
        (strange, "has a weight 'extra.weight', which its config.json has no place for"),
    ],
)
def test_weights_must_be_those_of_the_configuration(model, changed, refusal):
    change_weights(model / "unet", changed)
    for use in ("draw", "export", "train"):
        with pytest.raises(LorararError, match=re.escape(refusal)):
            open_checkpoint(model, use)


def test_older_names_of_a_vaes_attention_are_read(model, embedded):
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(weights):
        for new, old in older.items():
            names = {name: name.replace(f".{new}.", f".{old}.") for name in weights}
            weights = {names[name]: weight for name, weight in weights.items()}
        return weights

    change_weights(model / "vae", renamed)
    assert ".proj_attn." in "".join(load_file(model / "vae" / WEIGHTS))
    pipeline, wanted = load_pipeline(model), embedded.vae.state_dict()
    for name, weight in pipeline.vae.state_dict().items():
        assert torch.equal(weight, wanted[name]), name
    with open_model(str(model), None) as opened:
        found = parts.decoder_part(opened).load().state_dict()
    assert all(torch.equal(weight, wanted[name]) for name, weight in found.items())


def assert_same_weights(found, wanted):
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        weights = getattr(found, part).state_dict()
        for name, weight in getattr(wanted, part).state_dict().items():
            assert torch.equal(weights[name], weight), (part, name)


def test_folders_of_the_fp16_variant_alone_are_read(model, embedded):
    for file in list(model.rglob("*.safetensors")):
        file.rename(file.with_suffix(".fp16.safetensors"))
    assert_same_weights(load_pipeline(model, use="train"), embedded)
    with open_model(str(model), None) as opened, open_model("mini", None) as wanted:
        assert opened.identity == wanted.identity
        assert set(opened.weights("text_encoder_2")) == set(wanted.weights("text_encoder_2"))


@pytest.fixture(scope="module")
def small_vaes():
    torch.manual_seed(0)
    kl = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latents_mean=MEAN,
        latents_std=DEVIATION,
        scaling_factor=0.5,
    )
    widths, counts = (8, 8), (1, 1)
    tiny = AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=counts,
        num_decoder_blocks=counts,
        scaling_factor=0.5,
    )
    return {"kl": kl.eval().requires_grad_(False), "tiny": tiny.eval().requires_grad_(False)}


@pytest.mark.parametrize("kind", ["kl", "tiny"])
def test_latents_are_coded_as_diffusers_codes_them(small_vaes, kind):
    vae = small_vaes[kind]
    mean, deviation = (
        (torch.tensor(values).view(1, 4, 1, 1) for values in (MEAN, DEVIATION))
        if kind == "kl"
        else (0.0, 1.0)
    )
    x = torch.randn(1, 4, 4, 4)
    wanted = vae.decode(x * deviation / 0.5 + mean).sample
    assert torch.allclose(latents.decode(vae, x), wanted, atol=1e-6)
    pixels = torch.randn(1, 3, 8, 8)
    encoded = vae.encode(pixels)
    raw = encoded.latents if kind == "tiny" else encoded.latent_dist.mean
    assert torch.allclose(latents.encode(vae, pixels), (raw - mean) * 0.5 / deviation, atol=1e-6)


@pytest.mark.parametrize("kind", ["kl", "tiny"])
def test_exported_vaes_do_what_diffusers_does_around_them(small_vaes, kind, tmp_path):
    vae, model = small_vaes[kind], tmp_path / "model"
    shutil.copytree(BASE, model, ignore=shutil.ignore_patterns("vae"))
    vae.save_pretrained(model / "vae")
    change(model / "model_index.json", vae=["diffusers", type(vae).__name__])
    opened = parts.OpenedModel(model, "", {})
    decoder, encoder = parts.decoder_part(opened).loaded(), parts.vae_encoder_part(opened).loaded()
    x = torch.randn(1, 4, 4, 4)
    found = decoder.run({"latent_sample": x / 0.5})["sample"]
    assert torch.allclose(found, latents.decode(vae, x), atol=1e-5)
    pixels = torch.randn(1, 3, 8, 8)
    moments = encoder.run({"sample": pixels})["latent_parameters"]
    means, log_variances = moments.chunk(2, 1)
    assert torch.allclose(means * 0.5, latents.encode(vae, pixels), atol=1e-5)
    assert parts.exported_config(opened, "vae")["latents_mean"] is None
    assert parts.pixels_per_latent(opened) == 2
    if kind == "kl":
        ratio = vae.encode(pixels).latent_dist.std / torch.exp(log_variances / 2)
        assert torch.allclose(ratio, torch.tensor(DEVIATION).view(1, 4, 1, 1).expand_as(ratio))


def test_the_embedding_of_guidance_is_that_of_diffusers():
    embed = StableDiffusionXLPipeline.get_guidance_scale_embedding
    for guidance, width in ((8.0, 256), (1.5, 33)):
        wanted = embed(None, torch.tensor([guidance - 1]), width).numpy()
        assert np.allclose(guidance_embedding(guidance, width), wanted, atol=1e-3)


SMALL = {
    "block_out_channels": [16, 32, 32],
    "attention_head_dim": [1, 1, 1],
    "cross_attention_dim": 16,
    "norm_num_groups": 8,
    "sample_size": 8,
}
HONOURED = {  # at once: what were left out of these would change the answer
    "act_fn": "gelu",
    "conv_in_kernel": 5,
    "conv_out_kernel": 1,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "mid_block_scale_factor": 2.0,
    "norm_eps": 0.01,
    "resnet_out_scale_factor": 2.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "scale_shift",
    "time_cond_proj_dim": 32,
    "time_embedding_dim": 64,
    "timestep_post_act": "silu",
    "upcast_attention": True,
    "use_linear_projection": False,
}


@pytest.mark.parametrize("middle", ["UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None])
def test_stages_compute_what_the_unet_does_with_all_that_is_honoured(tmp_path, middle, monkeypatch):
    """Stages put the UNet together anew."""
    shutil.copytree(BASE, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    change(tmp_path / "model" / UNET, **SMALL, **HONOURED, mid_block_type=middle)
    monkeypatch.setattr(parts, "slotted_projections", lambda unet, _: attention_projections(unet))
    opened = parts.OpenedModel(tmp_path / "model", "", {})
    torch.manual_seed(0)
    whole = parts.unet_part(opened, 1)
    inputs, factors = parts.random_inputs(whole, opened)
    state, values = whole.module.unet.state_dict(), dict(inputs)
    with torch.no_grad():
        for weight in state.values():
            weight.add_(torch.randn_like(weight) * 0.05)
        wanted = whole.run(inputs | factors)["out_sample"]
        for stage in stages_of(whole):
            for name, parameter in stage.module.named_parameters():
                parameter.copy_(state[name])
            values |= stage.run(values | factors)
    assert torch.allclose(values["out_sample"], wanted, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def single(tmp_path_factory, embedded):
    """The embedded model as one file, beside its configurations."""
    folder = tmp_path_factory.mktemp("single")
    save_single_file(embedded, folder / "small.safetensors")
    ignored = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(BASE, folder / "small", ignore=ignored)
    return folder


def copied(single, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(single, tmp_path / "given")
    return tmp_path / "given" / "small.safetensors"


def test_a_single_file_is_the_model_that_it_was_made_of(single, embedded, tmp_path, monkeypatch):
    file = copied(single, tmp_path, monkeypatch)
    assert_same_weights(load_pipeline(file, use="train"), embedded)
    monkeypatch.setattr(single_file, "_load", None)  # once made it is not made again
    with open_model(str(file), None) as opened:
        assert set(opened.weights("unet")) == set(embedded.unet.state_dict())


def test_tensors_that_say_how_a_single_file_was_trained_are_honoured(single, tmp_path, monkeypatch):
    file = copied(single, tmp_path, monkeypatch)
    marks = {"v_pred": np.zeros(1, np.float32), "ztsnr": np.zeros(1, np.float32)}
    save_file(load_file(file) | marks, file)
    config = json.loads((open_checkpoint(file, "draw") / SCHEDULER).read_bytes())
    said = config["prediction_type"], config["rescale_betas_zero_snr"]
    assert said == ("v_prediction", True)


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        (lambda w: w | {"edm_vpred.sigma_max": np.zeros(1)}, "holds 'edm_vpred.sigma_max'"),
        (
            lambda w: w | {"model.diffusion_model.time_embed_cond.weight": np.zeros(5)},
            "but its configuration has room for",
        ),
        (
            lambda w: {k: w[k] for k in w if k != "model.diffusion_model.out.2.weight"},
            "lacks some of its model's weights",
        ),
    ],
)
def test_single_files_of_other_weights_are_refused(single, tmp_path, monkeypatch, changed, refusal):
    file = copied(single, tmp_path, monkeypatch)
    save_file(changed(load_file(file)), file)
    with pytest.raises(LorararError, match=re.escape(refusal)):
        open_checkpoint(file, "export")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_single_file_without_configurations_says_where_they_go(single, tmp_path, monkeypatch):
    file = copied(single, tmp_path, monkeypatch)
    shutil.rmtree(file.with_suffix(""))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(LorararError, match=r"\.json and \.txt files .* into the folder .*small$"):
        open_checkpoint(file, "draw")


def runtime_on_torch(model, folder):
    """The runtime with parts as they are exported, but run by torch: no exporter takes its time."""
    with open_model(str(model), None) as opened, torch.no_grad():
        write_rest(opened.folder, folder)
        built = [parts.build_part(name, opened).loaded() for name in parts.PART_NAMES]
        stages = {part.name: [stage_of(part)] for part in built}
        traits = Traits(
            engine="onnx",
            quantize="none",
            slot_dtype="float32",
            side=opened.config("unet")["sample_size"],
        )
        manifest = describe_folder(opened, folder, Programs(stages=stages, errors={}), traits, None)
    config = folder / "scheduler" / "scheduler_config.json"
    return Pipeline(
        folder,
        manifest,
        {part.name: [(stages[part.name][0], partial(run_by_torch, part))] for part in built},
        tokenizers=[load_tokenizer(folder / name) for name in ("tokenizer", "tokenizer_2")],
        schedule=NoiseSchedule.from_config(json.loads(config.read_bytes()), config),
        cache=FactorCache(folder, manifest, None, 1),
    )


def run_by_torch(part, tensors):
    """Without any LoRA."""
    names = factor_names(part.projections)
    factors = example_factors(part.projections, torch.float32)
    inputs = {name: torch.from_numpy(value) for name, value in tensors.items()}
    with torch.no_grad():
        found = part.run(inputs | dict(zip(names, factors, strict=True)))
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize("name", ["Playground v2.5", "LCM-SDXL"])
def test_models_of_four_channels_draw_as_with_diffusers(name, tmp_path):
    """The embedded model's eight channels would hide a fault, its plain VAE another."""
    (published,) = [model for model in MODELS if model.name == name]
    unet = published.unet | {"layers_per_block": 1, "sample_size": 64}
    write_model(replace(published, unet=unet, vae=PLAYGROUND_VAE), tmp_path / "model")
    wanted = drawn_by_diffusers(tmp_path / "model", steps=2)
    assert wanted.std() > 20
    assert decibels(drawn_by_torch(tmp_path / "model", steps=2), wanted) > 60
    (tmp_path / "exported").mkdir()
    with narrow_bases():
        pipeline = runtime_on_torch(tmp_path / "model", tmp_path / "exported")
    found = np.asarray(pipeline.generate(PROMPT, steps=2, guidance=GUIDANCE, seed=SEED))
    assert decibels(found, wanted) > 60
    if name == "LCM-SDXL":
        with pytest.raises(LorararError, match="takes no negative prompt"):
            pipeline.generate(PROMPT, "a dog", steps=2)


@pytest.mark.slow
@pytest.mark.parametrize("published", MODELS, ids=lambda published: published.name)
def test_published_models_are_honoured_or_refused(published, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with narrow_bases():
        row = judged(published, tmp_path / "exports")
    for figure in (row["draw_db"], row["export_db"]):
        assert figure is None or figure > 60
    assert row["refused"] or (row["export_db"] and row["trained"] == "yes")


def lines_of(kind):
    """The page's lines on a class: keys of equal rules together."""
    said = {key: tuple(rule.said for rule in row) for key, row in TABLES[kind].items()}
    for cells in dict.fromkeys(said.values()):
        keys = ", ".join(f"`{key}`" for key in said if said[key] == cells)
        yield f"| {keys} | {' | '.join(cells)} |"
    needless = ", ".join(f"`{key}`" for key in sorted(NEEDLESS[kind]))
    yield f"Change nothing here: {needless}."


def test_the_page_says_what_is_honoured_of_every_key_and_model():
    page = (ROOT / "docs" / "configurations.md").read_text()
    missing = [line for kind in TABLES for line in lines_of(kind) if line not in page]
    missing += [one.name for one in MODELS if f"| {one.name} |" not in page]
    assert missing == []
