"""LoRAs as an exported UNet takes them: their factors by slot, in the export's dtype."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from lorarar.artefacts.pipeline import SLOTS, PipelineManifest, Stage, slot_inputs
from lorarar.errors import LorararError
from lorarar.files import Array
from lorarar.lora import Layer, Lora, load_lora, refuse_bad_weights
from lorarar.merge import Coefficients
from lorarar.numeric import narrow, quietly, widen
from lorarar.parallel import side_by_side

Factors = dict[str, np.ndarray]


def open_lora(path: Path, manifest: PipelineManifest, source: str) -> Lora:
    """Read a LoRA in any layout; its weights stay on disk.

    Raises LorararError as `load_lora` and `slot_factors` do.
    """
    lora = load_lora(path)
    for name, layer in lora.layers.items():
        _check(name, layer, lora, manifest, source)
        for factor in (layer.down, layer.up):
            refuse_bad_weights(np.asarray(factor), name, lora)
    return lora


def slot_factors(lora: Lora, manifest: PipelineManifest, source: str, workers: int = 1) -> Factors:
    """Map `unet.<layer>.lora_A.weight` (rank, in) and `.lora_B.weight` (out, rank) to arrays.

    alpha is folded into the latter. Layers that the LoRA lacks are left out, so cost nothing.

    Raises LorararError if a layer has no slot, or another shape than its slot, if a rank is over
    the export's limit, or if weights are not finite.
    """
    return _by_layer(partial(_alone, lora), lora, manifest, source, workers)


def pair_factors(
    pair: Sequence[Lora],
    coefficients: Coefficients,
    scales: Sequence[float],
    manifest: PipelineManifest,
    source: str,
) -> Factors:
    """Map the inputs of slots that take pairs to arrays; see `pipeline_format.slot_inputs`.

    pair, scales: content, then style, both as `open_lora` gives them. Factors stay where they are
    if the export takes their dtype; alpha and scales are folded into m.

    Raises LorararError as `slot_factors` does, but does not look again for weights that are not
    finite.
    """
    made: Factors = {}
    for side, (slot, lora, scale) in enumerate(zip(SLOTS, pair, scales, strict=True)):
        m = {name: both[side] for name, both in coefficients.items()}
        make = partial(_in_slot, lora, slot, m, scale)
        made |= _by_layer(make, lora, manifest, source, workers=1)  # hardly anything is computed
    return made


def _by_layer(
    make: Callable[[np.dtype, str], Factors],
    lora: Lora,
    manifest: PipelineManifest,
    source: str,
    workers: int,
) -> Factors:
    for name, layer in lora.layers.items():
        _check(name, layer, lora, manifest, source)
    make_in_dtype = quietly(partial(make, np.dtype(manifest.slot_dtype)))
    widest = max(map(max, manifest.projections.values()))
    made = side_by_side(make_in_dtype, list(lora.layers), workers, widest)
    return {key: factor for factors in made.values() for key, factor in factors.items()}


def _alone(lora: Lora, dtype: np.dtype, name: str) -> Factors:
    layer = lora.layers[name]
    up = layer.up if layer.scale == 1 else widen(np.asarray(layer.up)) * np.float32(layer.scale)
    down_name, up_name, _ = slot_inputs(name.removeprefix("unet."))
    return {
        down_name: _finite(layer.down, dtype, name, lora),
        up_name: _finite(up, dtype, name, lora),
    }


def _in_slot(
    lora: Lora, slot: str, m: Coefficients, scale: float, dtype: np.dtype, name: str
) -> Factors:
    layer = lora.layers[name]
    down, up = (
        np.asarray(factor) if factor.dtype == dtype else _finite(factor, dtype, name, lora)
        for factor in (layer.down, layer.up)
    )
    scaled = m.get(name, np.ones(1, np.float32)) * np.float32(layer.scale * scale)
    scaled = refuse_bad_weights(scaled, name, lora)
    names = slot_inputs(name.removeprefix("unet."), slot)
    return dict(zip(names, (down, up, scaled), strict=True))


def _finite(factor: Array, dtype: np.dtype, name: str, lora: Lora) -> np.ndarray:
    given = np.asarray(factor)
    if given.dtype != dtype:
        given = narrow(widen(given), dtype)
    return refuse_bad_weights(given, name, lora)


def _check(name: str, layer: Layer, lora: Lora, manifest: PipelineManifest, source: str) -> None:
    slot = manifest.projections.get(name.removeprefix("unet."))
    if slot is None or not name.startswith("unet."):
        raise LorararError(
            f"{lora.source}: layer '{name}' has no slot in {source}, whose base is {manifest.base}"
            " and whose slots are the attention layers; give a LoRA of these"
        )
    if layer.shape != slot:
        raise LorararError(
            f"{lora.source}: layer '{name}' is {layer.shape[0]}x{layer.shape[1]}, but {source} "
            f"({manifest.base}) has {slot[0]}x{slot[1]}; this LoRA is for another base model"
        )
    if layer.rank > manifest.rank:
        raise LorararError(
            f"{lora.source}: layer '{name}' has rank {layer.rank}, but {source} takes "
            f"{manifest.rank} at most; reduce it with: lorarar merge --rank"
        )


def filled_factors(given: Factors, stage: Stage, dtype: np.dtype) -> Factors:
    """Every factor of a stage, in its order, for engines that take all of them in one rank.

    Shorter ones and those not given are filled up with zeros, to rank 1 at least.
    """
    rank = max((len(factor) for name, factor in given.items() if ".lora_A." in name), default=1)
    shapes = {
        name: shape
        for layer, (out, width) in stage.layers.items()
        for name, shape in zip(slot_inputs(layer), ((rank, width), (out, rank)), strict=False)
    }
    return {name: _filled(given.get(name), shape, dtype) for name, shape in shapes.items()}


def _filled(factor: np.ndarray | None, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    if factor is not None and factor.shape == shape:
        return factor
    filled = np.zeros(shape, dtype)
    if factor is not None:
        filled[: factor.shape[0], : factor.shape[1]] = factor
    return filled
