"""Write a diffusers pipeline as one file in SDXL's original layout, as most checkpoints are shared.

The inverse of what diffusers' `from_single_file` does; diffusers itself has none in its package.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

Named = tuple[str, Tensor]
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
AROUND = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
VAE = {
    "conv_norm_out": "norm_out",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0.group_norm": "mid.attn_1.norm",
    "mid_block.attentions.0.to_q": "mid.attn_1.q",
    "mid_block.attentions.0.to_k": "mid.attn_1.k",
    "mid_block.attentions.0.to_v": "mid.attn_1.v",
    "mid_block.attentions.0.to_out.0": "mid.attn_1.proj_out",
    "resnets": "block",
    "downsamplers.0": "downsample",
    "upsamplers.0": "upsample",
    "conv_shortcut": "nin_shortcut",
    "down_blocks": "down",
}
OPEN_CLIP = {
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.embeddings.token_embedding": "token_embedding",
    "text_model.final_layer_norm": "ln_final",
    "text_model.encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn": "attn",
}


def save_single_file(pipeline: Any, path: Path, marks: tuple[str, ...] = ()) -> None:
    """Write a pipeline's weights; marks: names of tensors that say how it was trained."""
    tensors = {
        **{f"model.diffusion_model.{name}": weight for name, weight in _unet(pipeline.unet)},
        **{f"first_stage_model.{name}": weight for name, weight in _vae(pipeline.vae)},
        **{
            f"conditioner.embedders.0.transformer.{name}": weight
            for name, weight in pipeline.text_encoder.named_parameters()
        },
        **{
            f"conditioner.embedders.1.model.{name}": weight
            for name, weight in _open_clip(pipeline.text_encoder_2)
        },
        "conditioner.embedders.1.model.logit_scale": torch.tensor(4.6),
        **{name: torch.zeros(1) for name in marks},
    }
    save_file({name: weight.detach().contiguous() for name, weight in tensors.items()}, path)


def _renamed(name: str, names: dict[str, str]) -> str:
    for new, original in names.items():
        name = re.sub(
            rf"(?<![\w.]){re.escape(new)}(?!\w)|(?<=\.){re.escape(new)}(?!\w)", original, name
        )
    return name


def _unet(unet: Any) -> Iterator[Named]:
    each = (
        unet.config.layers_per_block + 1
    )  # with what samples down, or the resnet more on the way up
    for name, weight in unet.named_parameters():
        found = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", name)
        if not found:
            name = _renamed(name, AROUND)
            name = name if ".transformer_blocks." in name else _renamed(name, RESNET)
        else:
            way, kind, rest = found[1], found[3], found[5]
            index = int(found[2]) * each + int(found[4])
            if kind == "downsamplers":
                name = f"input_blocks.{index + each}.0.{rest.replace('conv', 'op')}"
            elif kind == "upsamplers":
                has_attention = hasattr(unet.up_blocks[int(found[2])], "attentions")
                name = f"output_blocks.{index + each - 1}.{1 + has_attention}.{rest}"
            else:
                first = "input_blocks" if way == "down" else "output_blocks"
                place = index + (way == "down")
                name = f"{first}.{place}.{int(kind == 'attentions')}.{rest}"
                name = name if kind == "attentions" else _renamed(name, RESNET)
        yield name, weight


def _vae(vae: Any) -> Iterator[Named]:
    last = len(vae.config.block_out_channels) - 1
    for name, weight in vae.named_parameters():
        name = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{last - int(found[1])}", name)
        name = _renamed(name, VAE)
        is_projection = ".attn_1." in name and weight.ndim == 2  # a convolution there
        yield name, weight[:, :, None, None] if is_projection else weight


def _open_clip(encoder: Any) -> Iterator[Named]:
    weights = dict(encoder.named_parameters())
    yield "text_projection", weights.pop("text_projection.weight").T
    for name, weight in weights.items():
        if ".k_proj." in name or ".v_proj." in name:
            continue
        if ".q_proj." in name:
            parts = [weights[name.replace("q_proj", f"{which}_proj")] for which in "qkv"]
            name = name.replace("q_proj.", "in_proj_")
            weight = torch.cat(parts)
        yield _renamed(name, OPEN_CLIP), weight
