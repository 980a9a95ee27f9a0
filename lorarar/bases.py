"""The SDXL-class base models: their UNets' configuration and attention projections, torch-free."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import gcd
from typing import Any

Shape = tuple[int, int]
Depths = tuple[int, ...]


@dataclass(frozen=True)
class Base:
    """What separates one SDXL-class UNet from another (diffusers `UNet2DConditionModel`).

    down, up: transformer blocks in each attention of the two blocks on the way down and up, as the
    UNet runs them; middle: in the middle block, 0 for a resnet alone, None for no middle block;
    pooled: width of the second text encoder's pooled embedding; time_width: of each time id's.
    """

    down: tuple[Depths, Depths]
    up: tuple[Depths, Depths]
    middle: int | None
    widths: tuple[int, int] = (640, 1280)
    cross_attention: int = 2048
    head_width: int = 64
    pooled: int = 1280
    time_width: int = 256


BASES = {
    "sdxl": Base(((2, 2), (10, 10)), ((10, 10, 10), (2, 2, 2)), 10),
    "ssd-1b": Base(((2, 2), (4, 4)), ((4, 4, 10), (2, 1, 1)), 0),
    "koala-1b": Base(((2,), (6,)), ((6, 6), (2, 2)), 6),
    "koala-700m": Base(((2,), (5,)), ((5, 5), (2, 2)), None),
    "mini": Base(
        ((1,), (1,)), ((1, 1), (1, 1)), 1, (96, 160), 160, head_width=32, pooled=96, time_width=16
    ),
}
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")  # of one attention
MIDDLES = {None: None, 0: "UNetMidBlock2D"}  # of diffusers; all others have attention


def unet_config(base: Base) -> dict[str, Any]:
    """Return the arguments of diffusers' `UNet2DConditionModel` for this base."""
    channels = (base.widths[0] // 2, *base.widths)
    return {
        "block_out_channels": channels,
        "layers_per_block": len(base.down[0]),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "mid_block_type": MIDDLES.get(base.middle, "UNetMidBlock2DCrossAttn"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, *map(_in_short, base.down)],
        "reverse_transformer_layers_per_block": [*map(_in_short, base.up), 1],
        "attention_head_dim": tuple(width // base.head_width for width in channels),
        "norm_num_groups": gcd(32, channels[0]),
        "cross_attention_dim": base.cross_attention,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": base.time_width,
        "projection_class_embeddings_input_dim": 6 * base.time_width + base.pooled,
    }


def _in_short(depths: Depths) -> int | list[int]:
    return depths[0] if len(set(depths)) == 1 else list(depths)


def narrowed(base: Base) -> Base:
    """The same blocks, as narrow as the embedded small model's."""
    return replace(BASES["mini"], down=base.down, up=base.up, middle=base.middle)


def attention_shapes(base: Base) -> dict[str, Shape]:
    """Map each attention projection's diffusers name to its weight's shape (out, in)."""
    narrow, wide = base.widths
    blocks = [
        ("down_blocks.1", base.down[0], narrow),
        ("down_blocks.2", base.down[1], wide),
        ("up_blocks.0", base.up[0], wide),
        ("up_blocks.1", base.up[1], narrow),
    ]
    if base.middle:
        blocks.append(("mid_block", (base.middle,), wide))
    return {
        f"{block}.attentions.{attention}.transformer_blocks.{layer}.{name}": shape
        for block, depths, width in blocks
        for attention, depth in enumerate(depths)
        for layer in range(depth)
        for name, shape in _transformer_block(width, base.cross_attention)
    }


def _transformer_block(width: int, context: int) -> Iterator[tuple[str, Shape]]:
    for attention, source in (("attn1", width), ("attn2", context)):
        for projection in PROJECTIONS:
            reads = source if projection in ("to_k", "to_v") else width
            yield f"{attention}.{projection}", (width, reads)


SHAPES = {name: attention_shapes(base) for name, base in BASES.items()}


def base_of(shapes: Mapping[str, Shape]) -> str | None:
    """Name the smallest base that has all these attention projections in these shapes."""
    fitting = [name for name, known in SHAPES.items() if shapes.items() <= known.items()]
    return min(fitting, key=lambda name: len(SHAPES[name])) if fitting else None
