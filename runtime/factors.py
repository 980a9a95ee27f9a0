"""A LoRA as an exported UNet takes it: its factors by slot, in the export's dtype."""

from functools import partial

import numpy as np

from lorarar.errors import LorararError
from lorarar.lora import Layer, Lora
from lorarar.merge import refuse_bad_weights
from lorarar.numeric import narrow, quietly, widen
from lorarar.parallel import side_by_side
from lorarar.pipeline_format import Pipeline, Stage

Factors = dict[str, np.ndarray]


def factors_of(lora: Lora, pipeline: Pipeline, source: str, workers: int = 1) -> Factors:
    """Map `unet.<layer>.lora_A.weight` (rank, in) and `.lora_B.weight` (out, rank) to arrays.

    alpha is folded into the latter. Layers that the LoRA lacks are left out, so cost nothing.

    Raises LorararError if a layer has no slot, or another shape than its slot, if a rank is over
    the export's limit, or if weights are not finite.
    """
    for name, layer in lora.layers.items():
        _check(name, layer, lora, pipeline, source)
    make = quietly(partial(_factors, lora, np.dtype(pipeline.slot_dtype)))
    widest = max(map(max, pipeline.slots.values()))
    made = side_by_side(make, list(lora.layers), workers, widest)
    return {
        f"{name}.{suffix}.weight": factor
        for name, pair in made.items()
        for suffix, factor in zip(("lora_A", "lora_B"), pair, strict=True)
    }


def _check(name: str, layer: Layer, lora: Lora, pipeline: Pipeline, source: str) -> None:
    slot = pipeline.slots.get(name.removeprefix("unet."))
    if slot is None or not name.startswith("unet."):
        raise LorararError(
            f"{lora.source}: layer '{name}' has no slot in {source}, whose base is {pipeline.base}"
            " and whose slots are the attention layers; give a LoRA of these"
        )
    if layer.shape != slot:
        raise LorararError(
            f"{lora.source}: layer '{name}' is {layer.shape[0]}x{layer.shape[1]}, but {source} "
            f"({pipeline.base}) has {slot[0]}x{slot[1]}; this LoRA is for another base model"
        )
    if layer.rank > pipeline.rank:
        raise LorararError(
            f"{lora.source}: layer '{name}' has rank {layer.rank}, but {source} takes "
            f"{pipeline.rank} at most; reduce it with: lorarar merge --rank"
        )


def _factors(lora: Lora, dtype: np.dtype, name: str) -> tuple[np.ndarray, np.ndarray]:
    layer = lora.layers[name]
    down, up = np.asarray(layer.down), np.asarray(layer.up)
    if layer.scale != 1:
        up = widen(up) * np.float32(layer.scale)
    narrowed = (
        factor if factor.dtype == dtype else narrow(widen(factor), dtype) for factor in (down, up)
    )
    down, up = (refuse_bad_weights(factor, name, lora) for factor in narrowed)
    return down, up


def filled_factors(given: Factors, stage: Stage, dtype: np.dtype) -> Factors:
    """Every factor of a stage, in its order, for engines that take all of them in one rank.

    Shorter ones and those not given are filled up with zeros, to rank 1 at least.
    """
    rank = max((len(factor) for name, factor in given.items() if ".lora_A." in name), default=1)
    shapes = {
        f"unet.{layer}.{suffix}.weight": shape
        for layer, (out, width) in stage.layers.items()
        for suffix, shape in (("lora_A", (rank, width)), ("lora_B", (out, rank)))
    }
    return {name: _filled(given.get(name), shape, dtype) for name, shape in shapes.items()}


def _filled(factor: np.ndarray | None, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    if factor is not None and factor.shape == shape:
        return factor
    filled = np.zeros(shape, dtype)
    if factor is not None:
        filled[: factor.shape[0], : factor.shape[1]] = factor
    return filled
