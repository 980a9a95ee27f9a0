"""Where an export takes its model from: a checkpoint, or a seed."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from lorarar.bases import BASES, unet_config
from lorarar.diffusion.checkpoint import LOADED, open_checkpoint
from lorarar.diffusion.standin import standin_rest
from lorarar.diffusion.weights import read_weights, weight_file, weight_files, weight_variant
from lorarar.errors import LorararError
from lorarar.export.parts import OpenedModel
from lorarar.export.rest import check_rest
from lorarar.export.slots import slotted_projections
from lorarar.export.weights import random_weights
from lorarar.files import sha256

SEED = 0


@contextmanager
def open_model(name: str | None, random_base: str | None) -> Iterator[OpenedModel]:
    """Find a model's configurations and map its weights.

    name: see `open_checkpoint`. random_base: seeded weights in a base's true UNet instead, beside
    shallow text encoders and a small VAE.

    Raises LorararError if there is none, if it is of no SDXL-class base, or if a configuration or
    its weights cannot be exported.
    """
    if (name is None) == (random_base is None):
        raise LorararError("give either --model or --random-weights")
    with TemporaryDirectory() as temporary:
        if random_base:
            yield _random_model(random_base, Path(temporary))
        else:
            yield _stored_model(open_checkpoint(str(name), "export"))


def _stored_model(folder: Path) -> OpenedModel:
    check_rest(folder)
    variant = weight_variant(folder, [*LOADED])
    unet = weight_file(folder / "unet", variant)
    digest = hashlib.sha256()
    for file in weight_files(unet):
        digest.update(sha256(file).encode())
    model = OpenedModel(folder, digest.hexdigest(), read_weights(unet), variant)
    with torch.device("meta"):
        slotted_projections(model.build("unet"), folder)
    return model


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
