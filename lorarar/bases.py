"""The SDXL-class base models: every Linear and Conv2d with its shape, made from their structure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from math import gcd, prod
from typing import Any

Shape = tuple[int, int]
Depths = tuple[int, ...]
Named = tuple[str, tuple[int, ...]]  # a layer and its weight's shape

ENCODERS = ("text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Base:
    """What separates one SDXL-class model from another (diffusers `UNet2DConditionModel`).

    down, up: transformer blocks in each attention of the two blocks on the way down and up, as the
    UNet runs them; middle: in the middle block, 0 for a resnet alone, None for no middle block;
    pooled: width of the second text encoder's pooled embedding; time_width: of each time id's;
    encoders: (width, layers) of each text encoder.
    """

    down: tuple[Depths, Depths]
    up: tuple[Depths, Depths]
    middle: int | None
    widths: tuple[int, int] = (640, 1280)
    cross_attention: int = 2048
    head_width: int = 64
    pooled: int = 1280
    time_width: int = 256
    encoders: tuple[tuple[int, int], tuple[int, int]] = ((768, 12), (1280, 32))

    @property
    def channels(self) -> tuple[int, int, int]:
        """Width of each block on the way down."""
        return self.widths[0] // 2, *self.widths

    @property
    def layers_per_block(self) -> int:
        """Count the resnets in each block on the way down."""
        return len(self.down[0])


BASES = {
    "sdxl": Base(((2, 2), (10, 10)), ((10, 10, 10), (2, 2, 2)), 10),
    "ssd-1b": Base(((2, 2), (4, 4)), ((4, 4, 10), (2, 1, 1)), 0),
    "vega": Base(((1, 1), (2, 2)), ((2, 2, 2), (1, 1, 1)), 0),
    "koala-1b": Base(((2,), (6,)), ((6, 6), (2, 2)), 6),
    "koala-700m": Base(((2,), (5,)), ((5, 5), (2, 2)), None),
    "mini": Base(
        ((1,), (1,)),
        ((1, 1), (1, 1)),
        1,
        (96, 160),
        160,
        head_width=32,
        pooled=96,
        time_width=16,
        encoders=((64, 2), (96, 2)),
    ),
}
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")  # of one attention
MIDDLES = {None: None, 0: "UNetMidBlock2D"}  # of diffusers; all others have attention


def unet_config(base: Base) -> dict[str, Any]:
    """Return the arguments of diffusers' `UNet2DConditionModel` for this base."""
    return {
        "block_out_channels": base.channels,
        "layers_per_block": base.layers_per_block,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "mid_block_type": MIDDLES.get(base.middle, "UNetMidBlock2DCrossAttn"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, *map(_in_short, base.down)],
        "reverse_transformer_layers_per_block": [*map(_in_short, base.up), 1],
        "attention_head_dim": tuple(width // base.head_width for width in base.channels),
        "norm_num_groups": gcd(32, base.channels[0]),
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


@cache
def layer_shapes(base: Base) -> dict[str, tuple[int, ...]]:
    """Map every Linear and Conv2d of the UNet and both text encoders to its weight's shape.

    Names are those of diffusers and transformers behind 'unet.', 'text_encoder.' or
    'text_encoder_2.'; shapes are (out, in), and (out, in, height, width) of convolutions.
    """
    return dict((*_unet(base), *_encoders(base)))


def attention_shapes(base: Base) -> dict[str, Shape]:
    """Map each of the UNet's attention projections, without 'unet.', to its shape (out, in)."""
    return {
        name.removeprefix("unet."): (shape[0], shape[1])
        for name, shape in layer_shapes(base).items()
        if ".attn" in name
    }


def _unet(base: Base) -> Iterator[Named]:
    first, time = base.widths[0] // 2, 2 * base.widths[0]
    yield "unet.conv_in", (first, 4, 3, 3)
    yield "unet.time_embedding.linear_1", (time, first)
    yield "unet.time_embedding.linear_2", (time, time)
    yield "unet.add_embedding.linear_1", (time, 6 * base.time_width + base.pooled)
    yield "unet.add_embedding.linear_2", (time, time)
    skipped = [first]  # widths of what the way down hands to the way up
    yield from _way_down(base, skipped)
    yield from _way_up(base, skipped)
    yield from _middle(base)
    yield "unet.conv_out", (4, first, 3, 3)


def _way_down(base: Base, skipped: list[int]) -> Iterator[Named]:
    without_attention = (0,) * base.layers_per_block
    depths = (without_attention, *base.down)
    for number, (block, width) in enumerate(zip(depths, base.channels, strict=True)):
        name = f"unet.down_blocks.{number}"
        for index, depth in enumerate(block):
            yield from _resnet(base, f"{name}.resnets.{index}", skipped[-1], width)
            yield from _attention(base, f"{name}.attentions.{index}", depth, width)
            skipped.append(width)
        if number < len(depths) - 1:
            yield f"{name}.downsamplers.0.conv", (width, width, 3, 3)
            skipped.append(width)


def _way_up(base: Base, skipped: list[int]) -> Iterator[Named]:
    without_attention = (0,) * (base.layers_per_block + 1)
    depths = (*base.up, without_attention)
    before = base.channels[-1]
    for number, (block, width) in enumerate(zip(depths, base.channels[::-1], strict=True)):
        name = f"unet.up_blocks.{number}"
        for index, depth in enumerate(block):
            yield from _resnet(base, f"{name}.resnets.{index}", before + skipped.pop(), width)
            yield from _attention(base, f"{name}.attentions.{index}", depth, width)
            before = width
        if number < len(depths) - 1:
            yield f"{name}.upsamplers.0.conv", (width, width, 3, 3)


def _middle(base: Base) -> Iterator[Named]:
    width = base.channels[-1]
    if base.middle is None:
        return
    yield from _resnet(base, "unet.mid_block.resnets.0", width, width)
    if base.middle:
        yield from _attention(base, "unet.mid_block.attentions.0", base.middle, width)
        yield from _resnet(base, "unet.mid_block.resnets.1", width, width)


def _resnet(base: Base, name: str, width_in: int, width: int) -> Iterator[Named]:
    yield f"{name}.conv1", (width, width_in, 3, 3)
    yield f"{name}.time_emb_proj", (width, 2 * base.widths[0])
    yield f"{name}.conv2", (width, width, 3, 3)
    if width_in != width:
        yield f"{name}.conv_shortcut", (width, width_in, 1, 1)


def _attention(base: Base, name: str, depth: int, width: int) -> Iterator[Named]:
    if not depth:
        return
    yield f"{name}.proj_in", (width, width)
    for block in (f"{name}.transformer_blocks.{index}" for index in range(depth)):
        for attention, source in (("attn1", width), ("attn2", base.cross_attention)):
            for projection in PROJECTIONS:
                reads = source if projection in ("to_k", "to_v") else width
                yield f"{block}.{attention}.{projection}", (width, reads)
        yield f"{block}.ff.net.0.proj", (8 * width, width)
        yield f"{block}.ff.net.2", (width, 4 * width)
    yield f"{name}.proj_out", (width, width)


def _encoders(base: Base) -> Iterator[Named]:
    for component, (width, depth) in zip(ENCODERS, base.encoders, strict=True):
        for index in range(depth):
            layer = f"{component}.text_model.encoder.layers.{index}"
            for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
                yield f"{layer}.self_attn.{projection}", (width, width)
            yield f"{layer}.mlp.fc1", (4 * width, width)
            yield f"{layer}.mlp.fc2", (width, 4 * width)
    yield "text_encoder_2.text_projection", (base.pooled, base.encoders[1][0])


SHAPES = {name: attention_shapes(base) for name, base in BASES.items()}


def base_of(shapes: Mapping[str, Shape]) -> str | None:
    """Name the smallest base that has all these attention projections in these shapes."""
    fitting = [name for name, known in SHAPES.items() if shapes.items() <= known.items()]
    return min(fitting, key=lambda name: len(SHAPES[name])) if fitting else None


@cache
def matrix_shapes(base: Base) -> dict[str, Shape]:
    """`layer_shapes`, each as a matrix: (out, the other axes multiplied)."""
    return {name: (shape[0], prod(shape[1:])) for name, shape in layer_shapes(base).items()}


def bases_with(layers: Mapping[str, Shape]) -> list[str]:
    """Name the bases that these layers, in their `matrix_shapes`, can be for, in `BASES`' order.

    Where they are all that some bases' UNets have of their kinds (as every `attn1.to_q`), these
    bases alone, and not those that have more of them.
    """
    fitting = [
        name for name, base in BASES.items() if layers.items() <= matrix_shapes(base).items()
    ]
    return [name for name in fitting if covers(layers, BASES[name])] or fitting


def covers(layers: Iterable[str], base: Base) -> bool:
    """Whether these UNet layers are all that the base has of their kinds."""
    known = _kinds(base)
    given = {name for name in layers if name.startswith("unet.")}
    kinds = {known.get(name) for name in given}
    return given == {name for name, kind in known.items() if kind in kinds}


@cache
def _kinds(base: Base) -> dict[str, str]:
    return {name: _kind(name) for name in layer_shapes(base) if name.startswith("unet.")}


def _kind(name: str) -> str:
    """What a layer does, wherever it is: the end of its name, as in 'attn1.to_q'."""
    return ".".join([part for part in name.split(".") if not part.isdecimal()][-2:])
