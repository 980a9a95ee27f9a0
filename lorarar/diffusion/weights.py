"""The weights of a diffusers folder: their files, names and shapes, from the files' headers."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorarar.errors import LorararError
from lorarar.files import Array, read_safetensors

Weights = Mapping[str, Array]
STEMS = ("diffusion_pytorch_model", "model")
FP16 = "fp16"  # the variant that many models are published in beside, or in place of, float32
BUFFER = re.compile(r"(^|\.)position_ids$")  # older checkpoints hold these numbers, too
ATTENTION = re.compile(r"(?<=\.)(query|key|value|proj_attn)(?=\.(weight|bias)$)")
NEWER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def weight_variant(folder: Path, parts: list[str]) -> str | None:
    """Return the variant that a folder's parts have to be loaded in, None for none.

    Raises LorararError if a part has no safetensors.
    """
    found = {_variants(folder / part)[0] for part in parts}
    return FP16 if FP16 in found else None


def weight_file(folder: Path, variant: str | None = None) -> Path:
    """Return a part's safetensors file, or its index if it is in shards, as diffusers chooses it.

    Raises LorararError if there is none.
    """
    variants = _variants(folder)
    return _candidates(folder, variant if variant in variants else variants[0])[0]


def _variants(folder: Path) -> list[str | None]:
    found = [variant for variant in (None, FP16) if _candidates(folder, variant)]
    if not found:
        raise LorararError(f"{folder}: holds no .safetensors; get the model again in this format")
    return found


def _candidates(folder: Path, variant: str | None) -> list[Path]:
    mark = f".{variant}" if variant else ""
    names = [
        name
        for stem in STEMS
        for name in (f"{stem}.safetensors.index{mark}.json", f"{stem}{mark}.safetensors")
    ]
    return [folder / name for name in names if (folder / name).exists()]


def weight_files(file: Path) -> list[Path]:
    """List the safetensors that `weight_file` gives, or their shards."""
    if file.suffix != ".json":
        return [file]
    return [file.parent / shard for shard in sorted(set(shards(file).values()))]


def shards(file: Path) -> dict[str, str]:
    """Map the weights of an index to their files' names.

    Raises LorararError if the index is damaged.
    """
    try:
        places: dict[str, str] = json.loads(file.read_bytes())["weight_map"]
        return {name: Path(shard).name for name, shard in places.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise LorararError(f"{file}: damaged ({error!r}); get the model again") from error


def read_weights(file: Path) -> Weights:
    """Map what `weight_file` gives; the names of older attention layers are today's.

    Raises LorararError if a file or shard is missing or damaged.
    """
    if file.suffix != ".json":
        weights, _ = read_safetensors(file)
        return {
            ATTENTION.sub(lambda found: NEWER[found[0]], name): weight
            for name, weight in weights.items()
            if not BUFFER.search(name)
        }
    places = shards(file)
    read = {shard: read_safetensors(file.parent / shard)[0] for shard in set(places.values())}
    for name, shard in places.items():
        if name not in read[shard]:
            raise LorararError(f"{file.parent / shard}: lacks '{name}'; get the model again")
    return {name: read[shard][name] for name, shard in places.items() if not BUFFER.search(name)}


def check_weights(weights: Weights, module: Any, file: Path) -> None:
    """Raise LorararError unless the weights are all that a module, perhaps of the meta device, has.

    file: where they are from.
    """
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name in [*wanted, *found]:
        if found.get(name) == wanted.get(name):
            continue
        if name not in found:
            said = f"lacks the weight '{name}'"
        elif name not in wanted:
            said = f"has a weight '{name}', which its config.json has no place for"
        else:
            said = f"its weight '{name}' is {found[name]}, but config.json wants {wanted[name]}"
        raise LorararError(f"{file}: {said}; get the model again")
