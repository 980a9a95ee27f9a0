"""LoRA files out: the layouts that other tools read, with their metadata."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from lorarar.bases import BASES, covers, layer_shapes
from lorarar.errors import LorararError
from lorarar.files import (
    Array,
    Deferred,
    dump_safetensors,
    write_folder_atomically,
    write_safetensors,
)
from lorarar.lora import Feature, Layer, Lora, Prepared, refuse_bad_weights
from lorarar.lora_names import kohya_name
from lorarar.numeric import narrow, quietly, split_scale, widen

Layout = Literal["diffusers", "kohya", "peft"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
OUTDATED = {  # what an input file says of its own layout, its alphas and the tensors it had
    "lora_adapter_metadata",
    "lorarar.prepared",
    "modelspec.hash_sha256",
    "modelspec.implementation",
    "sshs_legacy_hash",
    "sshs_model_hash",
    "ss_network_alpha",
    "ss_network_args",
    "ss_network_dim",
    "ss_network_module",
}
OLDER = ("lora_linear_layer.down", "lora_linear_layer.up")


def save_lora(
    lora: Lora, path: str | Path, layout: Layout = "diffusers", force: bool = False
) -> None:
    """Write a LoRA, its dtype kept, its layers computed as they go out.

    layout: "diffusers" (canonical: diffusers names, `lora_A` / `lora_B`, scales folded in), "kohya"
    (sd-scripts names, with alphas and `ss_*`) or "peft" (a folder: adapter_config.json and
    adapter_model.safetensors; text encoders in folders of their own inside).

    Raises LorararError if the path exists (without `force`) or cannot be written, if the scaled
    weights do not fit the dtype, if the layout is unknown, or if it has no name for a layer.

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
    if layout == "kohya":
        alpha = _usual_alpha(lora)
        tensors, about = _kohya(lora, alpha), _kohya_metadata(lora, alpha)
    else:
        tensors, about = tensors_of(lora), _diffusers_metadata(lora)
    write_safetensors(path, tensors, _metadata(lora, path) | about, force)


def usual_layout(lora: Lora, path: Path) -> Layout:
    """kohya's for files of SDXL's numbering of blocks, as every tool reads it; else diffusers'.

    Not for text encoders without `out_proj`, by which diffusers knows kohya's names of attention.
    """
    is_sdxl = lora.base in ("sdxl", "ssd-1b", "vega")
    is_plain_file = path.suffix == ".safetensors" and lora.prepared is None
    components = _components(lora)
    is_known = all(
        any(name.endswith("out_proj") for name in components[encoder])
        or all(".mlp." in name for name in components[encoder])
        for encoder in components.keys() - {"unet"}
    )
    return "kohya" if is_sdxl and is_plain_file and is_known else "diffusers"


def tensors_of(lora: Lora) -> dict[str, Array]:
    """Name a LoRA's factors canonically, its scales folded in."""
    attended = {name.partition(".")[0] for name in lora.layers if ".self_attn." in name}
    tensors: dict[str, Array] = {}
    for name, layer in lora.layers.items():
        folded = _folded(name, layer)
        # diffusers looks for these older names where no attention of a text encoder is adapted.
        is_older = name.startswith("text_encoder") and name.partition(".")[0] not in attended
        down, up = OLDER if is_older else ("lora_A", "lora_B")
        tensors[f"{name}.{down}.weight"] = folded.down
        tensors[f"{name}.{up}.weight"] = folded.up
    if lora.prepared:
        for name, feature in lora.prepared.features.items():
            tensors[f"{name}.features"] = _feature_values(lora.layers[name], feature, lora.prepared)
            if feature.scales is not None:
                tensors[f"{name}.feature_scales"] = feature.scales
    return tensors


def _feature_values(layer: Layer, feature: Feature, prepared: Prepared) -> Array:
    """Those of level small are yet to be multiplied by down, so must do without down's scale."""
    if prepared.level != "small" or layer.scale == 1:
        return feature.values

    def without_scale_of_down() -> np.ndarray:
        _, by = split_scale(layer.scale, layer.up, layer.down, layer.down.dtype)
        return narrow(widen(feature.values) / by, feature.values.dtype)

    return Deferred(feature.values.shape, feature.values.dtype, without_scale_of_down)


def _kohya(lora: Lora, alpha: float) -> dict[str, Array]:
    """With one alpha for all: diffusers misreads a kohya file's attention alphas that differ."""
    layers_per_block = _numbering(lora)
    tensors: dict[str, Array] = {}
    for name, layer in lora.layers.items():
        module = kohya_name(name, layers_per_block)
        if _alpha(layer) != alpha:
            layer = _folded(name, layer._replace(scale=layer.scale * layer.rank / alpha))
        tensors[f"{module}.lora_down.weight"] = layer.down
        tensors[f"{module}.lora_up.weight"] = layer.up
        tensors[f"{module}.alpha"] = np.array(alpha, dtype=np.float32)
    return tensors


def _alpha(layer: Layer) -> float:
    return float(np.float32(layer.scale * layer.rank))


def _usual_alpha(lora: Lora) -> float:
    """What most layers need, so that these stay as they are; sd-scripts takes none of 0."""
    counted = Counter(alpha for layer in lora.layers.values() if (alpha := _alpha(layer)) > 0)
    return counted.most_common(1)[0][0] if counted else 1.0


def _numbering(lora: Lora) -> int:
    """Layers per block of the likeliest base, which number kohya's blocks.

    By the layers' names alone where their shapes fit no known base, as narrow test models' do.
    """
    fitting = lora.bases or [
        name for name, base in BASES.items() if lora.layers.keys() <= layer_shapes(base).keys()
    ]
    if not fitting:
        raise LorararError(
            f"{lora.source}: its layers fit no one base of {', '.join(BASES)}, so that kohya's "
            "format has no names for them; use another"
        )
    likeliest = min(fitting, key=lambda name: not covers(lora.layers, BASES[name]))
    return BASES[likeliest].layers_per_block


def _fill_peft(lora: Lora, folder: Path) -> None:
    for component, layers in _components(lora).items():
        target = folder if component == "unet" else folder / component
        target.mkdir(exist_ok=True)
        (target / "adapter_config.json").write_text(json.dumps(_peft_config(layers), indent=1))
        tensors = {
            f"base_model.model.{module}.lora_{part}.weight": factor
            for module, layer in layers.items()
            for part, factor in zip("BA", _folded(module, layer)[:2], strict=True)
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


def _folded(name: str, layer: Layer) -> Layer:
    """The same difference with scale 1."""
    if layer.scale == 1:
        return layer

    @quietly
    def scaled(side: int) -> np.ndarray:
        factor = np.asarray(layer[side])
        by = split_scale(layer.scale, layer.up, layer.down, factor.dtype)[side]
        return refuse_bad_weights(narrow(widen(factor) * by, factor.dtype), name)

    up, down = layer.up, layer.down
    return Layer(
        Deferred(up.shape, up.dtype, lambda: scaled(0)),
        Deferred(down.shape, down.dtype, lambda: scaled(1)),
    )


def _metadata(lora: Lora, path: Path) -> dict[str, str]:
    """The LoRA's own, and the Stability model metadata standard."""
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": path.stem,
    } | {key: value for key, value in lora.metadata.items() if key not in OUTDATED}


def _kohya_metadata(lora: Lora, alpha: float) -> dict[str, str]:
    """What sd-scripts reads."""
    ranks = {layer.rank for layer in lora.layers.values()}
    return {
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(max(ranks)) if len(ranks) == 1 else "Dynamic",
        "ss_network_alpha": f"{alpha:g}",
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_v2": "False",
    }


def _diffusers_metadata(lora: Lora) -> dict[str, str]:
    """The alphas where diffusers would take the wrong ones, as where ranks differ; and what is
    prepared."""
    about = {}
    configs = {component: _peft_config(layers) for component, layers in _components(lora).items()}
    has_projection = "text_encoder_2.text_projection" in lora.layers  # no rank of it is guessed
    if has_projection or any(config["rank_pattern"] for config in configs.values()):
        flat = {
            f"{c}.{key}": value for c, config in configs.items() for key, value in config.items()
        }
        about["lora_adapter_metadata"] = json.dumps(flat)
    if lora.prepared:
        kept = {k: getattr(lora.prepared, k) for k in ("role", "level", "fingerprint", "error")}
        about["lorarar.prepared"] = json.dumps(kept)
    return about
