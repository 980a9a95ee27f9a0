"""Tensor names of the LoRA conventions in use, to and from the canonical one.

The tables are those of diffusers; they are asked with index tensors in place of weights, so that
only names are converted here and the weights stay on disk.
"""

import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace

from lorarar.errors import LorararError

SUFFIX = re.compile(
    r"(?P<module>.+?)[._](?P<part>lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up"
    r"|lora_linear_layer\.down|lora_linear_layer\.up)(\.default)?\.weight"
)


def canonical_names(names: list[str], path: Path) -> dict[str, str]:
    """Map tensor names to `<component>.<layer>.lora_A.weight`, `.lora_B.weight` or `.alpha`.

    Understands kohya / sd-scripts, older diffusers keys and PEFT's `base_model.model.`.

    Raises LorararError for names that no SDXL LoRA has, or if diffusers is not installed.
    """
    unknown = [name for name in names if not (SUFFIX.fullmatch(name) or name.endswith(".alpha"))]
    if unknown:
        raise LorararError(
            f"{path}: tensor '{unknown[0]}' belongs to no plain LoRA; give an SDXL LoRA"
        )
    weights = [name for name in names if not name.endswith(".alpha")]
    if all(name.startswith("base_model.model.") for name in names):
        return {name: _from_peft(name) for name in weights}
    diffusers_names = _from_kohya if names[0].startswith("lora_") else _from_old_diffusers
    try:
        converted = diffusers_names(weights)
        modules = {_module(name): converted[name].rpartition(".lora_")[0] for name in weights}
    except ImportError as error:
        raise LorararError(
            f"{path}: this convention needs diffusers; run: pip install 'lorarar[formats]'"
        ) from error
    except (ValueError, KeyError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise LorararError(
            f"{path}: its layer names do not fit SDXL ({reason}); give an SDXL LoRA"
        ) from error
    alphas = {
        name: f"{modules[name.removesuffix('.alpha')]}.alpha"
        for name in names
        if name.removesuffix(".alpha") in modules
    }
    return converted | alphas


def kohya_module(layer: str) -> str:
    """Name a canonical layer as sd-scripts does: SDXL's own (sgm) UNet blocks, `lora_te1_`, ..."""
    if layer in _sdxl_kohya_modules():
        return _sdxl_kohya_modules()[layer]
    component, _, module = layer.partition(".")
    prefix = {"unet": "unet", "text_encoder": "te1", "text_encoder_2": "te2"}[component]
    return f"lora_{prefix}_{module.replace('.', '_')}"


def _module(name: str) -> str:
    match = SUFFIX.fullmatch(name)
    assert match, name
    return match["module"]


def _from_peft(name: str) -> str:
    match = SUFFIX.fullmatch(name.removeprefix("base_model.model."))
    assert match, name
    component = "text_encoder" if match["module"].startswith("text_model.") else "unet"
    if re.match(r"(unet|text_encoder|text_encoder_2)\.", match["module"]):
        return f"{match['module']}.{match['part']}.weight"
    return f"{component}.{match['module']}.{match['part']}.weight"


def _from_kohya(names: list[str]) -> dict[str, str]:
    from diffusers.loaders import StableDiffusionXLLoraLoaderMixin

    state, _ = StableDiffusionXLLoraLoaderMixin.lora_state_dict(
        _indices(names), unet_config=SimpleNamespace(layers_per_block=2)
    )
    return _from_indices(names, state)


def _from_old_diffusers(names: list[str]) -> dict[str, str]:
    state = _indices(names)
    components = ("unet.", "text_encoder.", "text_encoder_2.")
    return _from_indices(
        names,
        {
            name if name.startswith(components) else f"unet.{name}": index
            for name, index in state.items()
        },
    )


def _indices(names: list[str]) -> dict:
    import torch

    return {name: torch.tensor(index) for index, name in enumerate(names)}


def _from_indices(names: list[str], state: dict) -> dict[str, str]:
    from diffusers.utils import convert_state_dict_to_peft, convert_unet_state_dict_to_peft
    from diffusers.utils.state_dict_utils import StateDictType

    unet = {name: index for name, index in state.items() if name.startswith("unet.")}
    encoders = {name: state[name] for name in state.keys() - unet.keys()}
    # The type is given because diffusers cannot infer it without an out projection.
    peft = convert_unet_state_dict_to_peft(unet) | convert_state_dict_to_peft(
        encoders, original_type=StateDictType.DIFFUSERS_OLD
    )
    return {names[int(index)]: name for name, index in peft.items()}


@cache
def _sdxl_kohya_modules() -> dict[str, str]:
    """Invert diffusers' table by asking it for every module that SDXL's sgm UNet can have."""
    blocks = [f"{side}_blocks_{i}_" for side in ("input", "output") for i in range(9)]
    resnet = ("in_layers_2", "out_layers_3", "emb_layers_1", "skip_connection")
    attention = [f"attn{i}_to_{p}" for i in (1, 2) for p in ("q", "k", "v", "out_0")]
    transformer = [
        f"transformer_blocks_{depth}_{module}"
        for depth in range(10)
        for module in (*attention, "ff_net_0_proj", "ff_net_2")
    ]
    inside = [f"0_{m}" for m in resnet] + [f"1_{m}" for m in ("proj_in", "proj_out", *transformer)]
    modules = [f"{block}{module}" for block in blocks[1:] for module in inside]
    modules += [f"middle_block_{i}_{module}" for i in (0, 2) for module in resnet]
    modules += [f"middle_block_1_{module}" for module in ("proj_in", "proj_out", *transformer)]
    modules += ["input_blocks_3_0_op", "input_blocks_6_0_op", "output_blocks_2_2_conv"]
    modules += ["output_blocks_5_2_conv", "input_blocks_0_0", "out_2"]
    modules += ["time_embed_0", "time_embed_2", "label_emb_0_0", "label_emb_0_2"]
    names = [f"lora_unet_{m}.lora_{part}.weight" for m in modules for part in ("down", "up")]
    return {
        canonical.rpartition(".lora_")[0]: _module(name)
        for name, canonical in _from_kohya(names).items()
    }
