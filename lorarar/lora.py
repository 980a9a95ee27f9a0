"""LoRA files: what people have, read into one form, and written back as diffusers files."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor

from lorarar.bases import BASES, attention_shapes
from lorarar.errors import LorararError
from lorarar.files import read_safetensors, write_safetensors

NOT_PLAIN = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "hada_w1": "LoHa",
    "lokr_w1": "LoKr",
}


class Layer(NamedTuple):
    """One adapted layer: dW = scale * up @ down.

    up: (out, rank); down: (rank, in). Convolutions keep their trailing kernel axes.
    """

    up: Tensor
    down: Tensor
    scale: float = 1.0

    @property
    def rank(self) -> int:
        return self.down.shape[0]


@dataclass
class Lora:
    """A LoRA: layers by diffusers name ('unet.' and 'text_encoder*.' included)."""

    layers: dict[str, Layer]
    metadata: dict[str, str] = field(default_factory=dict)
    source: str = "<memory>"


def load_lora(path: str | Path) -> Lora:
    """Read a kohya or diffusers LoRA file of an SDXL-class base, alpha / rank folded in `scale`.

    Raises LorararError for bad files, non-plain LoRAs and LoRAs of another base.
    """
    path = Path(path)
    tensors, metadata = read_safetensors(path)
    _refuse_not_plain(tensors, path)
    alphas: dict[str, float] = {}
    if any(name.startswith("lora_unet_") for name in tensors):
        tensors, alphas = _from_kohya(tensors, path)
    layers = {}
    for name, down in tensors.items():
        if not name.endswith((".lora_A.weight", ".lora.down.weight")):
            continue
        layer = name.removesuffix(".lora_A.weight").removesuffix(".lora.down.weight")
        up = tensors.get(name.replace(".lora_A.", ".lora_B.").replace(".lora.down.", ".lora.up."))
        if up is None:
            raise LorararError(f"{path}: layer '{layer}' has a down but no up; get the file again")
        _check_shapes(layer, up, down, path)
        alpha = alphas.get(f"{layer}.alpha")
        layers[layer] = Layer(up, down, 1.0 if alpha is None else float(alpha) / down.shape[0])
    if not layers:
        raise LorararError(f"{path}: no LoRA layers found; give a kohya or diffusers SDXL LoRA")
    return Lora(layers, metadata, str(path))


def save_lora(lora: Lora, path: str | Path, force: bool = False) -> None:
    """Write diffusers names (`lora_A`/`lora_B`), the scale folded into up, dtype kept.

    Raises LorararError if the file exists (without `force`), cannot be written, or if the scaled
    weights do not fit the layer's dtype.
    """
    tensors = {}
    for name, layer in lora.layers.items():
        up = (layer.up.float() * layer.scale).to(layer.up.dtype)
        if not torch.isfinite(up).all():
            raise LorararError(f"{path}: layer '{name}' overflows {up.dtype}; use smaller scales")
        tensors[f"{name}.lora_A.weight"] = layer.down
        tensors[f"{name}.lora_B.weight"] = up
    write_safetensors(Path(path), tensors, lora.metadata, force)


def _refuse_not_plain(tensors: dict[str, Tensor], path: Path) -> None:
    for name in tensors:
        for mark, kind in NOT_PLAIN.items():
            if mark in name:
                raise LorararError(
                    f"{path}: tensor '{name}' makes this a {kind}; only plain LoRAs can be merged"
                )


def _check_shapes(name: str, up: Tensor, down: Tensor, path: Path) -> None:
    if up.ndim < 2 or down.ndim < 2 or up.shape[1] != down.shape[0]:
        raise LorararError(
            f"{path}: layer '{name}' has up {tuple(up.shape)} and down {tuple(down.shape)}, "
            "whose ranks differ (swapped up and down?); save the LoRA again"
        )
    wanted = _SDXL_SHAPES.get(name.removeprefix("unet."))
    found = (up.shape[0], down.shape[1])
    if wanted and found != wanted:
        raise LorararError(
            f"{path}: layer '{name}' is {found[0]}x{found[1]}, but SDXL-class bases have "
            f"{wanted[0]}x{wanted[1]}; this LoRA is for another base (SD 1.5, SD 2) or damaged"
        )


_SDXL_SHAPES = attention_shapes(BASES["sdxl"])


def _from_kohya(
    tensors: dict[str, Tensor], path: Path
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Convert through diffusers, which owns the table of kohya's SDXL names."""
    try:
        from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
        from diffusers.utils import convert_state_dict_to_peft, convert_unet_state_dict_to_peft
        from diffusers.utils.state_dict_utils import StateDictType
    except ImportError as error:
        raise LorararError(
            f"{path}: kohya names need diffusers; run: pip install 'lorarar[formats]'"
        ) from error

    def to_peft(state: dict) -> dict:
        unet = {name: value for name, value in state.items() if name.startswith("unet.")}
        encoders = {name: state[name] for name in state.keys() - unet.keys()}
        return convert_unet_state_dict_to_peft(unet) | convert_state_dict_to_peft(
            encoders, original_type=StateDictType.DIFFUSERS_OLD
        )

    unet_config = SimpleNamespace(layers_per_block=2)
    try:
        converted, alphas = StableDiffusionXLLoraLoaderMixin.lora_state_dict(
            tensors, unet_config=unet_config
        )
        # diffusers names some alphas after the layer and others after its whole down tensor.
        alphas_by_down = {
            name.removesuffix(".alpha")
            if name.endswith(".down.weight.alpha")
            else name.replace(".alpha", ".lora.down.weight"): alpha
            for name, alpha in (alphas or {}).items()
        }
        return to_peft(converted), {
            name.replace(".lora_A.weight", ".alpha"): alpha
            for name, alpha in to_peft(alphas_by_down).items()
        }
    except (ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise LorararError(
            f"{path}: its layer names do not fit SDXL ({reason}); give an SDXL LoRA"
        ) from error
