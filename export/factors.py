"""A LoRA's factors as inputs of an exported UNet: their names, examples, and tracing with them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from lorarar.artefacts.formats import LARGEST_RANK
from lorarar.artefacts.pipeline import slot_inputs
from lorarar.bases import Shape

EXAMPLE_RANK = 3


def factor_names(projections: Iterable[str]) -> Iterator[str]:
    """Name down, then up, of each projection, as in a canonical LoRA file."""
    for name in projections:
        down, up, _ = slot_inputs(name)
        yield from (down, up)


def rank_axis(factor: str) -> int:
    """Which axis of a factor of this name is its rank: down is (rank, in), up (out, rank)."""
    return 0 if ".lora_A." in factor else 1


def example_factors(projections: Mapping[str, Shape], dtype: torch.dtype) -> list[Tensor]:
    """Make zeros of a small rank, in the order of `factor_names`."""
    return [
        torch.zeros(shape, dtype=dtype)
        for out, width in projections.values()
        for shape in ((EXAMPLE_RANK, width), (out, EXAMPLE_RANK))
    ]


def trace_with_factors(
    module: nn.Module,
    inputs: Sequence[Tensor],
    projections: Mapping[str, Shape],
    dtype: torch.dtype,
) -> torch.export.ExportedProgram:
    """Trace a module that takes `inputs`, of fixed sizes, then its projections' factors, if any.

    Factors have this dtype and one rank, from 1 to LARGEST_RANK.
    """
    factors = example_factors(projections, dtype)
    shapes = torch.export.ShapesCollection()
    rank = torch.export.Dim("rank", min=1, max=LARGEST_RANK)
    for name, factor in zip(factor_names(projections), factors, strict=True):
        shapes[factor] = {rank_axis(name): rank}
    arguments = (*inputs, factors) if projections else (*inputs,)
    ranks = shapes.dynamic_shapes(module, arguments)
    return torch.export.export(module, arguments, dynamic_shapes=ranks, strict=False)
