"""Published SDXL-class configurations: is each honoured, or refused by name?

python benchmarks/configurations.py

Each model of `lorarar.benchmarks.published` is rebuilt with seeded random weights, narrower and
with single transformer blocks and two text layers in a row, all other keys as published. It is
drawn with diffusers alone and as `lorarar generate` draws it, exported to ONNX and drawn by the
runtime from the same noise, and trained on for one step. Models of equal networks share one export.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import torch
import typer
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from rich.progress import track

from lorarar import bases
from lorarar.artefacts.configurations import NEEDLESS
from lorarar.artefacts.pipeline import hash_files, read_manifest
from lorarar.bases import BASES, Base, attention_shapes
from lorarar.benchmarks.machine import describe
from lorarar.benchmarks.original_layout import save_single_file
from lorarar.benchmarks.published import (
    INDEX,
    MODELS,
    TEXT_ENCODER,
    TEXT_ENCODER_2,
    UNET,
    Config,
    Published,
)
from lorarar.benchmarks.report import Report, make_console, publish
from lorarar.command import run_script
from lorarar.diffusion.assemble import train_tokenizer
from lorarar.diffusion.checkpoint import LOADED, build
from lorarar.diffusion.pipeline import draw, load_pipeline
from lorarar.errors import LorararError
from lorarar.export.onnx.pipeline import export_pipeline
from lorarar.export.parts import OpenedModel
from lorarar.export.rest import write_rest
from lorarar.export.source import open_model
from lorarar.numeric import psnr
from lorarar.runtime.pipeline import Pipeline
from lorarar.training.lora import train_lora
from lorarar.training.recipes import LoraRecipe

PROMPT, STEPS, GUIDANCE, SEED = "a red cup on grass", 4, 3.0, 7
BLOCKS, LAYERS = 1, 2  # transformer blocks and text layers in a row, at most
SAME = 99.0  # dB, where nothing differs
NOTES = [
    "draw: by lorarar with torch, export: by the runtime from ONNX, all float32; PSNR in dB beside "
    "diffusers' own pipeline with the same noise, 99 where all 8-bit pixels are equal."
]
SMALL: dict[str, dict[int, int]] = {  # published widths -> those here
    "addition_time_embed_dim": {256: 16},
    "cross_attention_dim": {2048: 96, 1280: 64},
    "hidden_size": {768: 32, 1280: 64},
    "intermediate_size": {3072: 128, 5120: 256},
    "num_attention_heads": {12: 1, 20: 2},
    "num_hidden_layers": {12: LAYERS, 32: LAYERS},
    "projection_class_embeddings_input_dim": {2816: 160, 2560: 144},
    "projection_dim": {768: 32, 1280: 64},
    "sample_size": {128: 12, 64: 8, 1024: 96},
    "time_cond_proj_dim": {256: 32},
}
CHANNELS = {64: 32, 128: 32, 256: 32, 512: 64, 320: 32, 640: 64, 1280: 128}
CHANNELS |= {384: 32, 768: 64, 1536: 128}


def narrow(config: Config) -> Config:
    """The same configuration with fewer channels, blocks and layers."""
    made = {}
    for key, value in config.items():
        if key.endswith("block_out_channels"):
            value = [CHANNELS[width] for width in value]
        elif key == "attention_head_dim":
            value = [1, 2, 4, 4][: len(value)]
        elif key.endswith("transformer_layers_per_block"):
            value = _shallow(value)
        elif key in SMALL and value is not None:
            value = SMALL[key][value]
        made[key] = value
    return made


def _shallow(depth: Any) -> Any:
    return (
        type(depth)(map(_shallow, depth)) if isinstance(depth, list | tuple) else min(depth, BLOCKS)
    )


@contextmanager
def narrow_bases() -> Iterator[None]:
    """Within this context the bases are known as narrow as `narrow` makes them, too."""
    known = {}
    for name, base in BASES.items():
        known[f"{name}, narrow"] = Base(
            down=_shallow(base.down),
            up=_shallow(base.up),
            middle=None if base.middle is None else min(base.middle, BLOCKS),
            widths=(64, 128),
            cross_attention=96,
            head_width=32,
            pooled=64,
            time_width=16,
            encoders=((32, LAYERS), (64, LAYERS)),
        )
    shapes = {name: attention_shapes(base) for name, base in known.items()}
    with patch.dict(BASES, known), patch.dict(bases.SHAPES, shapes):
        yield


def write_model(model: Published, folder: Path) -> None:
    """Write a diffusers folder with seeded random weights, in float32."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer([PROMPT])
    tokenizer.model_max_length = TEXT_ENCODER["max_position_embeddings"]
    words = {"vocab_size": len(tokenizer)}
    vae = ["diffusers", model.vae["_class_name"]]
    scheduler = ["diffusers", model.scheduler["_class_name"]]
    index = INDEX | {"vae": vae, "scheduler": scheduler} | model.index
    configs = {
        "unet": narrow(UNET | model.unet),
        "vae": narrow(model.vae),
        "text_encoder": narrow(TEXT_ENCODER) | words,
        "text_encoder_2": narrow(TEXT_ENCODER_2) | words,
    }
    for part, (_, kind) in [(part, index[part]) for part in (*configs, "tokenizer", "tokenizer_2")]:
        if kind is None:
            continue
        if part not in configs:
            tokenizer.save_pretrained(str(folder / part))
            continue
        module = build(kind, configs[part], folder)
        _draw_weights(module)
        module.save_pretrained(folder / part)
        _write_json(folder / part / "config.json", configs[part])
    (folder / "scheduler").mkdir()
    _write_json(folder / "scheduler" / "scheduler_config.json", model.scheduler)
    _write_json(folder / "model_index.json", index)


def _write_json(path: Path, content: Config) -> None:
    path.write_text(json.dumps(content, indent=2))


def _draw_weights(module: Any) -> None:
    """So that activations stay in range and every layer counts."""
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim > 1:
                weight.normal_(0, weight[0].numel() ** -0.5)
            else:
                weight.add_(torch.randn_like(weight) * 0.1)


def as_single_file(model: Published, folder: Path) -> Path:
    """Write the model in `folder` as one file beside the configurations that others come with."""
    file = folder.with_name("single.safetensors")
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder)
    save_single_file(pipeline, file, model.single_file or ())
    write_model(Published(name="SDXL base 1.0"), file.with_suffix(""))
    for weights in file.with_suffix("").rglob("*.safetensors"):
        weights.unlink()
    return file


def drawn_by_diffusers(folder: Path, steps: int = STEPS) -> np.ndarray:
    """Draw with diffusers alone, (height, width, 3) uint8, from the runtime's noise."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    with _noise_of_runtime(pipeline) as latents:
        drawn = pipeline(
            PROMPT,
            latents=latents,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            output_type="pil",
        )
    return np.asarray(drawn.images[0])


def drawn_by_torch(path: Path, steps: int = STEPS) -> np.ndarray:
    """Draw as `lorarar generate --model` does, likewise."""
    pipeline = load_pipeline(path)
    with _noise_of_runtime(pipeline) as latents:
        (picture,) = draw(pipeline, [PROMPT], [0], steps, guidance=GUIDANCE, latents=latents)
    return (picture.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def drawn_by_runtime(folder: Path, steps: int = STEPS) -> np.ndarray:
    """Draw from an exported folder, likewise."""
    pipeline = Pipeline.load(folder, threads=2)
    return np.asarray(pipeline.generate(PROMPT, steps=steps, guidance=GUIDANCE, seed=SEED))


@contextmanager
def _noise_of_runtime(pipeline: Any) -> Iterator[torch.Tensor]:
    """The latents to start from; within this context, samplers draw on as the runtime does."""
    generator = np.random.default_rng(SEED)
    config = pipeline.unet.config
    shape = (1, config.in_channels, config.sample_size, config.sample_size)

    def draw_noise(shape: tuple[int, ...], **_: Any) -> torch.Tensor:
        return torch.from_numpy(generator.standard_normal(shape, np.float32))

    latents = draw_noise(shape)
    module = type(pipeline.scheduler).__module__
    with patch(f"{module}.randn_tensor", draw_noise, create=True):
        yield latents


def exported(path: Path, exports: Path) -> Path:
    """Export a model to ONNX in float32; of one whose networks were exported before, the rest."""
    with open_model(str(path), None) as opened:
        folder = exports / _digest_of_networks(opened)
        if not folder.exists():
            export_pipeline(opened, folder, "none")
            return folder
        shutil.rmtree(folder / "scheduler")
        write_rest(opened.folder, folder)
        zeros = opened.index.get("force_zeros_for_empty_prompt", True)
    manifest = replace(read_manifest(folder), zeros_for_empty=zeros, files=hash_files(folder))
    manifest.save(folder)
    return folder


def _digest_of_networks(model: OpenedModel) -> str:
    said = []
    for part in LOADED:
        config, needless = model.config(part), NEEDLESS[model.kind(part)]
        said.append({key: config[key] for key in config if key[0] != "_" and key not in needless})
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def train(path: Path, work: Path) -> None:
    """Train a LoRA for one step on one picture."""
    images = work / "images"
    images.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(images / "one.png")
    recipe = LoraRecipe(rank=2, steps=1, batch=1)
    train_lora(str(path), images, "a cup", "content", output=work / "x.safetensors", recipe=recipe)


def judged(model: Published, exports: Path) -> dict[str, Any]:
    """Draw, export and train one model; each figure is None where it is refused."""
    row: dict[str, Any] = {"model": model.name, "draw_db": None, "export_db": None, "trained": "no"}
    refusals = []
    with TemporaryDirectory() as temporary:
        folder = path = Path(temporary, "model")
        write_model(model, folder)
        try:
            if model.single_file is not None:
                path = as_single_file(model, folder)
            found = drawn_by_torch(path)
            wanted = drawn_by_diffusers(folder)
            row["draw_db"] = decibels(found, wanted)
        except LorararError as error:
            return row | {"refused": f"all: {_without(temporary, error)}"}
        try:
            found = drawn_by_runtime(exported(path, exports))
            row["export_db"] = decibels(found, wanted)
        except LorararError as error:
            refusals.append(f"runtime: {_without(temporary, error)}")
        try:
            train(path, Path(temporary))
            row["trained"] = "yes"
        except LorararError as error:
            refusals.append(f"training: {_without(temporary, error)}")
    return row | {"refused": "; ".join(refusals) or None}


def decibels(found: np.ndarray, wanted: np.ndarray) -> float:
    """PSNR of two pictures in uint8, `SAME` where all pixels are equal."""
    return min(psnr(found / np.float32(255), wanted / np.float32(255)), SAME)


def _without(folder: str, error: LorararError) -> str:
    return str(error).replace(f"{folder}/", "")


def main(
    only: Annotated[str, typer.Option(help="models whose names hold this")] = "",
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
) -> None:
    """Rebuild published models in small, and say of each what is honoured."""
    chosen = [model for model in MODELS if only in model.name]
    if not chosen:
        raise LorararError(f"--only {only}: no model's name holds this; leave it out to see them")
    with TemporaryDirectory() as exports, narrow_bases():
        rows = [judged(model, Path(exports)) for model in track(chosen, transient=True)]
    settings = {"steps": STEPS, "guidance": GUIDANCE, "seed": SEED}
    report = Report(
        benchmark="configurations", machine=describe(), settings=settings, rows=rows, notes=NOTES
    )
    publish(report, make_console(), json)


if __name__ == "__main__":
    run_script(main)
