"""The SDXL-class base models: their UNets' configuration and attention projections, torch-free."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import gcd
from typing import Any

Shape = tuple[int, int]


@dataclass(frozen=True)
class Base:
    """What separates one SDXL-class UNet from another (diffusers `UNet2DConditionModel`).

    pooled: width of the second text encoder's pooled embedding; time_width: of each time id's.
    """

    layers_per_block: int
    transformer_layers: tuple[int, int]  # in the blocks of the two widths
    mid_block: bool = True
    widths: tuple[int, int] = (640, 1280)
    cross_attention: int = 2048
    head_width: int = 64
    pooled: int = 1280
    time_width: int = 256


BASES = {
    "sdxl": Base(2, (2, 10)),
    "koala-1b": Base(1, (2, 6)),
    "koala-700m": Base(1, (2, 5), mid_block=False),
    "mini": Base(1, (1, 1), True, (96, 160), 160, head_width=32, pooled=96, time_width=16),
}


def unet_config(base: Base) -> dict[str, Any]:
    """Return the arguments of diffusers' `UNet2DConditionModel` for this base."""
    shallow, deep = base.transformer_layers
    channels = (base.widths[0] // 2, *base.widths)
    return {
        "block_out_channels": channels,
        "layers_per_block": base.layers_per_block,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2DCrossAttn" if base.mid_block else None,
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, shallow, deep],
        "attention_head_dim": tuple(width // base.head_width for width in channels),
        "norm_num_groups": gcd(32, channels[0]),
        "cross_attention_dim": base.cross_attention,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": base.time_width,
        "projection_class_embeddings_input_dim": 6 * base.time_width + base.pooled,
    }


def narrowed(base: Base) -> Base:
    """The same blocks, as narrow as the embedded small model's."""
    narrow = asdict(BASES["mini"])
    kept = ("layers_per_block", "transformer_layers", "mid_block")
    return Base(**narrow | {name: getattr(base, name) for name in kept})


def attention_shapes(base: Base) -> dict[str, Shape]:
    """Map each attention projection's diffusers name to its weight's shape (out, in)."""
    (narrow, wide), (shallow, deep) = base.widths, base.transformer_layers
    blocks = [
        ("down_blocks.1", base.layers_per_block, shallow, narrow),
        ("down_blocks.2", base.layers_per_block, deep, wide),
        ("up_blocks.0", base.layers_per_block + 1, deep, wide),
        ("up_blocks.1", base.layers_per_block + 1, shallow, narrow),
    ]
    if base.mid_block:
        blocks.append(("mid_block", 1, deep, wide))
    return {
        f"{block}.attentions.{attention}.transformer_blocks.{depth}.{name}": shape
        for block, attentions, depths, width in blocks
        for attention in range(attentions)
        for depth in range(depths)
        for name, shape in _transformer_block(width, base.cross_attention)
    }


def _transformer_block(width: int, context: int) -> Iterator[tuple[str, Shape]]:
    for attention, source in (("attn1", width), ("attn2", context)):
        yield f"{attention}.to_q", (width, width)
        yield f"{attention}.to_k", (width, source)
        yield f"{attention}.to_v", (width, source)
        yield f"{attention}.to_out.0", (width, width)


SHAPES = {name: attention_shapes(base) for name, base in BASES.items()}


def base_of(shapes: Mapping[str, Shape]) -> str | None:
    """Name the smallest base that has all these attention projections in these shapes."""
    fitting = [name for name, known in SHAPES.items() if shapes.items() <= known.items()]
    return min(fitting, key=lambda name: len(SHAPES[name])) if fitting else None
