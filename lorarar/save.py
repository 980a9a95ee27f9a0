"""LoRA files out: the layouts that other tools read, with their metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from lorarar.errors import LorararError
from lorarar.files import (
    Array,
    Deferred,
    dump_safetensors,
    write_folder_atomically,
    write_safetensors,
)
from lorarar.lora import Feature, Layer, Lora, refuse_bad_weights
from lorarar.numeric import narrow, quietly, widen

Layout = Literal["diffusers", "kohya", "peft"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
OUTDATED = {  # what an input file says of its own layout and alphas, which are folded in now
    "lora_adapter_metadata",
    "lorarar.prepared",
    "modelspec.implementation",
    "ss_network_alpha",
    "ss_network_args",
    "ss_network_dim",
    "ss_network_module",
}


def save_lora(
    lora: Lora, path: str | Path, layout: Layout = "diffusers", force: bool = False
) -> None:
    """Write a LoRA, its scale folded into up, its dtype kept, its layers computed as they go out.

    layout: "diffusers" (canonical: diffusers names, `lora_A` / `lora_B`), "kohya" (sd-scripts
    names, with alphas and `ss_*`) or "peft" (a folder: adapter_config.json and
    adapter_model.safetensors; text encoders in folders of their own inside).

    Raises LorararError if the path exists (without `force`) or cannot be written, if the scaled
    weights do not fit the dtype, or if the layout is unknown.

    >>> from tempfile import TemporaryDirectory
    >>> from lorarar.standin import standin_lora
    >>> with TemporaryDirectory() as folder:
    ...     save_lora(standin_lora("koala-700m", rank=2, seed=0), f"{folder}/random.safetensors")
    """
    path = Path(path)
    if layout == "peft":
        write_folder_atomically(path, lambda folder: _fill_peft(lora, folder), force)
        return
    if layout not in LAYOUTS:
        raise LorararError(f"layout '{layout}' is unknown; use one of {', '.join(LAYOUTS)}")
    tensors = _kohya(lora) if layout == "kohya" else tensors_of(lora)
    write_safetensors(path, tensors, _metadata(lora, layout, path), force)


def tensors_of(lora: Lora) -> dict[str, Array]:
    """Name a LoRA's factors canonically, its scale folded into up."""
    tensors: dict[str, Array] = {}
    for name, layer in lora.layers.items():
        tensors[f"{name}.lora_A.weight"] = layer.down
        tensors[f"{name}.lora_B.weight"] = _scaled_up(name, layer)
    for name, feature in (lora.prepared.features if lora.prepared else {}).items():
        tensors |= _feature_tensors(name, feature)
    return tensors


def _feature_tensors(name: str, feature: Feature) -> dict[str, Array]:
    tensors: dict[str, Array] = {f"{name}.features": feature.values}
    if feature.scales is not None:
        tensors[f"{name}.feature_scales"] = feature.scales
    return tensors


def _kohya(lora: Lora) -> dict[str, Array]:
    from lorarar.lora_names import kohya_module

    # One alpha for all: diffusers misreads a kohya file's attention alphas where they differ.
    alpha = max(layer.rank for layer in lora.layers.values())
    tensors: dict[str, Array] = {}
    for name, layer in lora.layers.items():
        module = kohya_module(name)
        scaled = layer._replace(scale=layer.scale * layer.rank / alpha)
        tensors[f"{module}.lora_down.weight"] = layer.down
        tensors[f"{module}.lora_up.weight"] = _scaled_up(name, scaled)
        tensors[f"{module}.alpha"] = np.array(alpha, dtype=np.float32)
    return tensors


def _fill_peft(lora: Lora, folder: Path) -> None:
    for component, layers in _components(lora).items():
        target = folder if component == "unet" else folder / component
        target.mkdir(exist_ok=True)
        (target / "adapter_config.json").write_text(json.dumps(_peft_config(layers), indent=1))
        tensors = {
            f"base_model.model.{module}.lora_{part}.weight": factor
            for module, layer in layers.items()
            for part, factor in (("A", layer.down), ("B", _scaled_up(module, layer)))
        }
        with (target / "adapter_model.safetensors").open("wb") as file:
            dump_safetensors(file, tensors, lora.metadata)


def _components(lora: Lora) -> dict[str, dict[str, Layer]]:
    components: dict[str, dict[str, Layer]] = {}
    for name, layer in lora.layers.items():
        component, _, module = name.partition(".")
        components.setdefault(component, {})[module] = layer
    return components


def _peft_config(layers: Mapping[str, Layer]) -> dict:
    """PEFT's LoraConfig with alpha = rank in every layer."""
    ranks = {module: layer.rank for module, layer in layers.items()}
    usual = max(ranks.values())
    unlike = {module: rank for module, rank in ranks.items() if rank != usual}
    return {
        "peft_type": "LORA",
        "r": usual,
        "lora_alpha": usual,
        "target_modules": list(layers),
        "rank_pattern": unlike,
        "alpha_pattern": unlike,
    }


def _diffusers_config(lora: Lora) -> dict[str, str]:
    """Say the alphas where ranks differ; diffusers would take one alpha for all layers."""
    configs = {component: _peft_config(layers) for component, layers in _components(lora).items()}
    if not any(config["rank_pattern"] for config in configs.values()):
        return {}
    flat = {f"{c}.{key}": value for c, config in configs.items() for key, value in config.items()}
    return {"lora_adapter_metadata": json.dumps(flat)}


def _scaled_up(name: str, layer: Layer) -> Array:
    if layer.scale == 1:
        return layer.up

    @quietly
    def scaled() -> np.ndarray:
        up = narrow(widen(np.asarray(layer.up)) * np.float32(layer.scale), layer.up.dtype)
        return refuse_bad_weights(up, name)

    return Deferred(layer.up.shape, layer.up.dtype, scaled)


def _metadata(lora: Lora, layout: str, path: Path) -> dict[str, str]:
    """The LoRA's own, the Stability model metadata standard, and sd-scripts' where it reads it."""
    metadata = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": path.stem,
    } | {key: value for key, value in lora.metadata.items() if key not in OUTDATED}
    if layout == "kohya":
        ranks = {layer.rank for layer in lora.layers.values()}
        metadata |= {
            "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
            "ss_network_module": "networks.lora",
            "ss_network_dim": str(max(ranks)) if len(ranks) == 1 else "Dynamic",
            "ss_network_alpha": str(max(ranks)),
            "ss_base_model_version": "sdxl_base_v1-0",
            "ss_v2": "False",
        }
    if layout == "diffusers":
        metadata |= _diffusers_config(lora)
    if layout == "diffusers" and lora.prepared:
        about = {k: getattr(lora.prepared, k) for k in ("role", "level", "fingerprint", "error")}
        metadata["lorarar.prepared"] = json.dumps(about)
    return metadata
