"""Attention projections of the SDXL-class base models: names and shapes, without torch."""

from collections.abc import Iterator
from dataclasses import dataclass

CROSS_ATTENTION_WIDTH = 2048


@dataclass(frozen=True)
class Base:
    """What separates one SDXL-class UNet from another (diffusers `UNet2DConditionModel`)."""

    layers_per_block: int
    transformer_layers: tuple[int, int]  # in blocks 640 and 1280 wide
    mid_block: bool = True


BASES = {
    "sdxl": Base(2, (2, 10)),
    "koala-1b": Base(1, (2, 6)),
    "koala-700m": Base(1, (2, 5), mid_block=False),
}


def attention_shapes(base: Base) -> dict[str, tuple[int, int]]:
    """Map each attention projection's diffusers name to its weight's shape (out, in)."""
    narrow, wide = base.transformer_layers
    blocks = [
        ("down_blocks.1", base.layers_per_block, narrow, 640),
        ("down_blocks.2", base.layers_per_block, wide, 1280),
        ("up_blocks.0", base.layers_per_block + 1, wide, 1280),
        ("up_blocks.1", base.layers_per_block + 1, narrow, 640),
    ]
    if base.mid_block:
        blocks.append(("mid_block", 1, wide, 1280))
    return {
        f"{block}.attentions.{attention}.transformer_blocks.{depth}.{name}": shape
        for block, attentions, depths, width in blocks
        for attention in range(attentions)
        for depth in range(depths)
        for name, shape in _transformer_block(width)
    }


def _transformer_block(width: int) -> Iterator[tuple[str, tuple[int, int]]]:
    for attention, context in (("attn1", width), ("attn2", CROSS_ATTENTION_WIDTH)):
        yield f"{attention}.to_q", (width, width)
        yield f"{attention}.to_k", (width, context)
        yield f"{attention}.to_v", (width, context)
        yield f"{attention}.to_out.0", (width, width)
