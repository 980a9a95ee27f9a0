"""Tensor names of every LoRA convention in use, to and from the canonical one.

A tensor's name is a layer's, in front of which tools put wrappers of their own, and an ending that
says which part of the layer it is. Layers have two names in use: diffusers' (`down_blocks.1...`)
and that of the UNet's first implementation, sgm's (`input_blocks.4...`), whose blocks are numbered
by how many layers a block has. Either is written with dots or, as kohya's sd-scripts do, with
underscores; all are compared with underscores.
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from lorarar.bases import BASES, layer_shapes

Part = str  # "down", "up", "alpha", "bias", "magnitude", or LyCORIS' own, as "hada_w1_a"
ADAPTER = r"(?:\.(?!weight$|bias$)[^.]+)?"  # PEFT's name of one of several, as '.default'
ENDINGS = {
    rf"[._]lora(?:_A|_down|\.down|_linear_layer\.down){ADAPTER}(?:\.weight)?": "down",
    rf"[._]lora(?:_B|_up|\.up|_linear_layer\.up){ADAPTER}(?:\.weight)?": "up",
    rf"[._]lora(?:_[AB]|_down|_up|\.down|\.up){ADAPTER}\.bias": "bias",
    r"(?:[._]lora(?:_linear_layer)?)?\.(?:lora_)?alpha": "alpha",
    rf"\.lora_magnitude_vector{ADAPTER}(?:\.weight)?": "magnitude",
    r"\.dora_scale": "dora_scale",
    r"\.lora_mid\.weight": "mid",
}
LYCORIS = re.compile(r"(.+)\.(hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2|diff(?:_b)?)")
ENDING = re.compile(
    "(?:" + "|".join(f"(?P<_{i}>{form})" for i, form in enumerate(ENDINGS)) + r")\Z"
)
USUAL = {"A.weight": "down", "B.weight": "up", "down.weight": "down", "up.weight": "up"}
PARTS = dict(zip((f"_{i}" for i in range(len(ENDINGS))), ENDINGS.values(), strict=True))
WRAPPER = re.compile(
    r"(?:(?P<text_encoder_2>text_encoder_2|text_encoders_clip_g|clip_g|te2|conditioner_embedders_1)"
    r"|(?P<text_encoder>text_encoder(?:_1|s_clip_l)?|clip_l|te1?|conditioner_embedders_0)"
    r"|(?P<unet>unet|diffusion_model)"
    r"|_?orig_mod|module|base_model|model|lora|lycoris|transformer|text_model)_"
)
RESNET = {  # diffusers' name -> sgm's
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
KOHYA = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}


def split_name(tensor: str) -> tuple[str, Part] | None:
    """Split a tensor's name into its layer's, as the file has it, and the part that it is.

    None if it does not end as a part of an adapted layer does.
    """
    layer, _, ending = tensor.rpartition(".lora_")
    if layer and ending in USUAL:  # most are: a regular expression takes longer than all the rest
        return layer, USUAL[ending]
    if match := ENDING.search(tensor, 1):
        return tensor[: match.start()], PARTS[str(match.lastgroup)]
    if match := LYCORIS.fullmatch(tensor):
        return match[1], match[2]
    return None


class Spelling(NamedTuple):
    """A layer's name without wrappers, with underscores, and the component that these name."""

    name: str
    component: str | None


def spelling_of(layer: str) -> Spelling:
    """What a file's name for a layer comes to."""
    flat, start, component = layer.replace(".", "_"), 0, None
    while match := WRAPPER.match(flat, start):
        start, component = match.end(), match.lastgroup or component
    return Spelling(flat[start:].replace("_processor_", "_"), component)


def meanings(spelling: Spelling, layers_per_block: int) -> list[str]:
    """Canonical layers that can be meant; those of both text encoders differ in width alone.

    layers_per_block: the base's, which numbers sgm's blocks.
    """
    layers = aliases(layers_per_block).get(spelling.name, [])
    if spelling.component is None:
        return layers
    return [layer for layer in layers if layer.startswith(f"{spelling.component}.")]


@cache
def aliases(layers_per_block: int) -> dict[str, list[str]]:
    """Map every spelling of a layer, without wrappers, to the canonical layers that have it."""
    layers = {
        layer: None
        for base in BASES.values()
        if base.layers_per_block == layers_per_block
        for layer in layer_shapes(base)
    }
    known: dict[str, list[str]] = {}
    for layer in layers:
        for spelling in _spellings(layer, layers_per_block):
            known.setdefault(spelling, []).append(layer)
    return known


def _spellings(layer: str, layers_per_block: int) -> Iterable[str]:
    component, _, module = layer.partition(".")
    flat = module.removeprefix("text_model.").replace(".", "_")
    names = {flat}
    if component == "unet":
        names.add(sgm_name(module, layers_per_block).replace(".", "_"))
        return names | {name.removesuffix("_0") for name in names if name.endswith("_to_out_0")}
    # The first text encoder LoRAs of diffusers were named as the UNet's.
    return {flat, re.sub(r"_attn_(q|k|v|out)_proj$", r"_attn_to_\1", flat)}


def sgm_name(module: str, layers_per_block: int) -> str:
    """Name a layer of the UNet as sgm does, and with it sd-scripts and ComfyUI.

    module: without 'unet.'; layers_per_block: the base's, which numbers the blocks.
    """
    if module in OUTSIDE:
        return OUTSIDE[module]
    side, *places, last = module.split(".")
    kind, index, *inside = places if side == "mid_block" else places[1:]
    rest = ".".join((*inside, RESNET.get(last, last) if kind == "resnets" else last))
    is_attention, number = int(kind == "attentions"), int(index)
    if side == "mid_block":  # resnet, attention, resnet
        return f"middle_block.{1 if is_attention else 2 * number}.{rest}"
    block = int(places[0])
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * (layers_per_block + 1)}.0.op"
    if kind == "upsamplers":  # in the block's last layer, behind its resnet and its attention
        return f"output_blocks.{block * (layers_per_block + 1) + layers_per_block}.2.conv"
    before = block * (layers_per_block + 1) + number
    if side == "down_blocks":
        return f"input_blocks.{1 + before}.{is_attention}.{rest}"
    return f"output_blocks.{before}.{is_attention}.{rest}"


def kohya_name(layer: str, layers_per_block: int) -> str:
    """Name a canonical layer as sd-scripts does: `lora_unet_` with sgm's name, `lora_te1_`, ..."""
    component, _, module = layer.partition(".")
    name = sgm_name(module, layers_per_block) if component == "unet" else module
    return f"{KOHYA[component]}_{name.replace('.', '_')}"
