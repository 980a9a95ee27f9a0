"""SDXL-class pipelines of diffusers: load one, put LoRAs in, draw."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils import logging
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from lorarar.artefacts.configurations import Use
from lorarar.diffusion.checkpoint import LOADED, open_checkpoint
from lorarar.diffusion.clip_tokenizers import open_tokenizers
from lorarar.diffusion.latents import decode
from lorarar.diffusion.prompts import chunk_count, long_prompt
from lorarar.diffusion.weights import weight_variant
from lorarar.embedded import BASE
from lorarar.errors import LorararError
from lorarar.files import write_atomically
from lorarar.lora import Lora
from lorarar.methods.options import PRECISIONS, Precision
from lorarar.save import tensors_of

ADAPTER = "merged"


def load_pipeline(
    model: str | Path | None = None, dtype: torch.dtype = torch.float32, use: Use = "draw"
) -> StableDiffusionXLPipeline:
    """Load an SDXL-class model; see `open_checkpoint`. None is the embedded small one.

    use: what it has to be fit for.

    Raises LorararError if it is missing, damaged or of another class, or for a configuration that
    is not honoured.
    """
    source = open_checkpoint(model or BASE, use)
    try:
        with _without_bar():
            pipeline = StableDiffusionXLPipeline.from_pretrained(
                str(source),
                torch_dtype=dtype,
                use_safetensors=True,
                variant=weight_variant(source, [*LOADED]),
                add_watermarker=False,
                **open_tokenizers(source),
            )
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise LorararError(
            f"{source}: no usable StableDiffusionXLPipeline folder ({reason}); "
            "give a diffusers folder of an SDXL-class model"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextmanager
def _without_bar() -> Iterator[None]:
    """Loading a few files needs no bar; those of the caller's own calls stay."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def load_onto(
    device: torch.device,
    model: str | Path | None = None,
    precision: Precision = "no",
    use: Use = "draw",
) -> StableDiffusionXLPipeline:
    """Load a pipeline onto a device; precision: "no" (float32), "bf16" or "fp16".

    The VAE stays in float32, as SDXL's overflows in fp16.
    """
    pipeline = load_pipeline(model, getattr(torch, PRECISIONS[precision]), use).to(device)
    pipeline.vae.to(dtype=torch.float32)
    return pipeline


def fastest_device() -> torch.device:
    """The GPU that torch finds, else the CPU."""
    return torch.accelerator.current_accelerator(True) or torch.device("cpu")


def put_lora(pipeline: StableDiffusionXLPipeline, lora: Lora | None) -> None:
    """Make `lora` the only one in the pipeline, or none.

    Raises LorararError if it is for another base.
    """
    pipeline.unload_lora_weights()
    if lora is None:
        return
    tensors = {name: torch.tensor(np.asarray(array)) for name, array in tensors_of(lora).items()}
    try:
        pipeline.load_lora_weights(tensors, adapter_name=ADAPTER)
    except (RuntimeError, ValueError) as error:
        raise LorararError(
            f"{lora.source}: does not fit this model ({str(error).splitlines()[0]}); "
            "give a LoRA of the same base model"
        ) from error


@torch.no_grad()
def draw(
    pipeline: StableDiffusionXLPipeline,
    prompts: list[str],
    seeds: list[int],
    steps: int = 20,
    *,
    guidance: float = 5.0,
    negative_prompt: str | None = None,
    **extra: Any,
) -> Tensor:
    """Draw one picture per prompt and seed, (n, 3, side, side) float32 in [0, 1].

    A picture depends on its own prompt and seed alone, whatever else is drawn beside it. Prompts
    may be of any length. extra: further arguments of the pipeline.

    Raises LorararError for guidance or pixels that are not finite: pictures would be black.
    """
    if not isfinite(guidance):
        raise LorararError(f"guidance {guidance}: must be a finite number, such as 5")
    asked: dict[str, Any] = {"prompt": prompts, "negative_prompt": negative_prompt}
    if any(chunk_count(pipeline, text) > 1 for text in (*prompts, negative_prompt or "")):
        if len(prompts) > 1:  # embeddings of other lengths do not go beside one another
            one_by_one = [
                draw(
                    pipeline,
                    [prompt],
                    [seed],
                    steps,
                    guidance=guidance,
                    negative_prompt=negative_prompt,
                    **extra,
                )
                for prompt, seed in zip(prompts, seeds, strict=True)
            ]
            return torch.cat(one_by_one)
        asked = long_prompt(pipeline, prompts[0], negative_prompt)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    latents = pipeline(
        **asked,
        generator=generators,
        num_inference_steps=steps,
        guidance_scale=guidance,
        output_type="latent",
        **extra,
    ).images
    # The VAE may be of another precision, with which the pipeline itself cannot decode.
    decoded = decode(pipeline.vae, latents)
    if not decoded.isfinite().all():
        raise LorararError("drew pixels that are not finite; lower guidance or LoRAs' scales")
    return pipeline.image_processor.postprocess(decoded, "pt").float()


def runtime_noise(pipeline: StableDiffusionXLPipeline, seed: int) -> Tensor:
    """Latents (1, channels, side, side) as `lorarar.runtime` draws them, for the same picture."""
    config = pipeline.unet.config
    shape = (1, config.in_channels, config.sample_size, config.sample_size)
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, np.float32))


def save_picture(picture: Tensor, path: Path, force: bool = False) -> None:
    """Write (3, side, side) in [0, 1] as a PNG, atomically."""
    write_atomically(path, lambda file: to_image(picture).save(file, "PNG"), force)


def to_image(picture: Tensor) -> Image.Image:
    """(3, side, side) in [0, 1] -> a Pillow image."""
    pixels = (picture.permute(1, 2, 0) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.cpu().numpy())
