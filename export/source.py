"""Where an export takes its model from: a diffusers folder, a hub id, or a seed."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

from lorarar import embedded
from lorarar.bases import BASES, unet_config
from lorarar.diffusion.standin import standin_rest
from lorarar.errors import LorararError
from lorarar.export.parts import OpenedModel
from lorarar.export.weights import folder_weights, random_weights
from lorarar.files import sha256

SEED = 0


@contextmanager
def open_model(name: str | None, random_base: str | None) -> Iterator[OpenedModel]:
    """Find a model's configurations and map its weights.

    name: a diffusers folder or hub id; "mini" is the embedded model. random_base: seeded weights
    in a base's true UNet instead, beside shallow text encoders and a small VAE.

    Raises LorararError if there is none, or if it is of another class.
    """
    if (name is None) == (random_base is None):
        raise LorararError("give either --model or --random-weights")
    with TemporaryDirectory() as temporary:
        if random_base:
            yield _random_model(random_base, Path(temporary))
        else:
            yield _stored_model(_folder(str(name)))


def _folder(name: str) -> Path:
    if name == embedded.NAME:
        return embedded.BASE
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(StableDiffusionXLPipeline.download(name, use_safetensors=True))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise LorararError(
            f"{name}: no folder here, and no hub id that can be had ({reason}); "
            "give a diffusers folder of an SDXL-class model"
        ) from error


def _stored_model(folder: Path) -> OpenedModel:
    index = folder / "model_index.json"
    try:
        kind = json.loads(index.read_bytes())["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LorararError(
            f"{index}: unusable ({error!r}); give a diffusers folder of an SDXL-class model"
        ) from error
    if not kind.startswith("StableDiffusionXL"):
        raise LorararError(f"{folder}: is a {kind}; give an SDXL-class model")
    weights = folder_weights(folder / "unet")
    digest = hashlib.sha256()
    for file in sorted((folder / "unet").glob("*.safetensors")):
        digest.update(sha256(file).encode())
    return OpenedModel(folder, digest.hexdigest(), weights)


def _random_model(base: str, folder: Path) -> OpenedModel:
    if base not in BASES:
        raise LorararError(f"base '{base}' is unknown; use one of {', '.join(BASES)}")
    config = unet_config(BASES[base])
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(sample_size=128, **config)
    rest = standin_rest(BASES[base], unet, torch.float16, 128)
    rest.save_config(folder)
    unet.save_config(folder / "unet")
    rest.scheduler.save_pretrained(folder / "scheduler")
    for part in ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2", "vae"):
        getattr(rest, part).save_pretrained(folder / part)
    return OpenedModel(folder, f"random {base}, seed {SEED}", random_weights(unet, SEED))
