"""LoRA files: what people have, read into one form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lorarar.bases import bases_with
from lorarar.errors import LorararError
from lorarar.formats.named_layers import read_layers, scale_of
from lorarar.formats.source import Source, json_object
from lorarar.layer import Layer, make_layer
from lorarar.numeric import all_finite

__all__ = ["Feature", "Layer", "Lora", "Prepared", "load_lora", "refuse_bad_weights"]


class Feature(NamedTuple):
    """Half of the hypernetwork's first layer for one layer of a LoRA, kept (METHOD: prepared).

    values: (hidden, rank) at level small, (hidden, in) at level full; float or int8.
    scales: (hidden, 1) float32, with int8 only; values * scales is the feature.
    """

    values: np.ndarray
    scales: np.ndarray | None = None


@dataclass
class Prepared:
    """The features of one LoRA in one role ("content" or "style"), for one hypernetwork.

    error: of the features as kept, against float32, relative in Frobenius norm over all layers.
    """

    role: str
    level: str
    fingerprint: str
    features: dict[str, Feature]
    error: float


@dataclass
class Lora:
    """A LoRA: layers by diffusers name ('unet.' and 'text_encoder*.' included).

    notes: what a reader of its file should know, as what was left out; a line each.
    """

    layers: dict[str, Layer]
    metadata: dict[str, str] = field(default_factory=dict)
    source: str = "<memory>"
    prepared: Prepared | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def bases(self) -> list[str]:
        """The known base models that it can be for, see `bases_with`."""
        return bases_with({name: layer.matrix_shape for name, layer in self.layers.items()})

    @property
    def base(self) -> str | None:
        """The first of `bases`, if there is one."""
        return next(iter(self.bases), None)


def load_lora(path: str | Path, *, mapped: bool = True) -> Lora:
    """Read a LoRA of an SDXL-class base, whatever tool wrote it.

    Takes the names of kohya's sd-scripts, of diffusers (new and old), ComfyUI, PEFT and LyCORIS'
    LoCon in a .safetensors file; a folder of PEFT's or diffusers'; or an adapter of ONNX Runtime
    (`lorarar export-adapter`).

    mapped: weights stay on disk until they are used, and the file must stay as it is until then;
    else they are read at once, see `lorarar.files.read_safetensors`.

    Raises LorararError for bad files, LoRAs that are not plain and LoRAs of another base.

    >>> from lorarar.embedded import LORAS
    >>> lora = load_lora(LORAS / "votol.safetensors")
    >>> lora.base, len(lora.layers)
    ('mini', 56)
    """
    named = read_layers(Path(path), mapped=mapped)
    layers = {}
    for name, parts in named.parts.items():
        up, down, shape = parts["up"], parts["down"], named.shapes[name]
        layers[name] = make_layer(up, down, scale_of(name, len(down), named), shape)
    source = named.source
    return Lora(layers, source.metadata, str(path), _prepared(source, layers), named.notes)


def refuse_bad_weights(result: np.ndarray, name: str, *loras: Lora) -> np.ndarray:
    """Return `result`; raise LorararError, naming the file to blame, if it is not finite."""
    if all_finite(result):
        return result
    for lora in loras:
        if name in lora.layers and not all(
            all_finite(np.asarray(factor)) for factor in lora.layers[name][:2]
        ):
            raise LorararError(
                f"{lora.source}: layer '{name}' has NaN or infinite weights; get it again"
            )
    raise LorararError(f"layer '{name}' overflows {result.dtype.name}; use smaller scales")


def _prepared(source: Source, layers: Mapping[str, Layer]) -> Prepared | None:
    if "lorarar.prepared" not in source.metadata:
        return None
    tensors, path = source.tensors, source.path
    about = json_object(source.metadata, "lorarar.prepared", path)
    features = {
        name.removesuffix(".features"): Feature(
            values, tensors.get(name.replace(".features", ".feature_scales"))
        )
        for name, values in tensors.items()
        if name.endswith(".features")
    }
    wanted = {"role": str, "level": str, "fingerprint": str, "error": float}
    if {key: type(value) for key, value in about.items()} != wanted or not all(
        name in layers and kept.values.shape[1:] == (_feature_width(about["level"], layers[name]),)
        for name, kept in features.items()
    ):
        raise LorararError(
            f"{path}: its metadata 'lorarar.prepared' does not fit its tensors; "
            "run lorarar prepare again"
        )
    return Prepared(**about, features=features)


def _feature_width(level: str, layer: Layer) -> int:
    return layer.rank if level == "small" else layer.shape[1]
