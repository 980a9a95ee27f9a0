"""A model's weights, one at a time: mapped from its safetensors, or drawn from a seed."""

import json
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from lorarar.errors import LorararError
from lorarar.files import Array, Deferred, read_safetensors

Weights = Mapping[str, Array]
STEMS = ("diffusion_pytorch_model", "model")


def folder_weights(folder: Path) -> Weights:
    """Map the safetensors of one part of a diffusers folder, in one file or in shards.

    Raises LorararError if there are none, or if a file or shard is missing or damaged.
    """
    for stem in STEMS:
        for variant in ("", ".fp16"):
            index = folder / f"{stem}.safetensors.index{variant}.json"
            if index.exists():
                return _sharded(index)
            single = folder / f"{stem}{variant}.safetensors"
            if single.exists():
                return read_safetensors(single)[0]
    raise LorararError(f"{folder}: holds no .safetensors; get the model again in this format")


def _sharded(index: Path) -> Weights:
    try:
        places: dict[str, str] = json.loads(index.read_bytes())["weight_map"]
        shards = {name: index.parent / Path(name).name for name in set(places.values())}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise LorararError(f"{index}: damaged ({error!r}); get the model again") from error
    read = {name: read_safetensors(path)[0] for name, path in shards.items()}
    for name, shard in places.items():
        if name not in read[shard]:
            raise LorararError(f"{shards[shard]}: lacks '{name}'; get the model again")
    return {name: read[shard][name] for name, shard in places.items()}


def random_weights(module: nn.Module, seed: int) -> Weights:
    """Draw float16 weights for a module's parameters, which may be on the meta device.

    Each depends on its name and the seed alone. Rows have about unit norm, biases are 0 and the
    scales of norms 1, so that activations stay in range.
    """
    return {
        name: Deferred(
            tuple(parameter.shape),
            np.dtype(np.float16),
            partial(_draw, name, tuple(parameter.shape), seed),
        )
        for name, parameter in module.named_parameters()
    }


def _draw(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    if len(shape) == 1:
        return np.full(shape, not name.endswith("bias"), np.float16)
    generator = np.random.default_rng((zlib.crc32(name.encode()), seed))
    deviation = np.float32(np.prod(shape[1:]) ** -0.5)
    return (generator.standard_normal(shape, np.float32) * deviation).astype(np.float16)
