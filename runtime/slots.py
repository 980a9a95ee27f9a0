"""LoRAs as an exported UNet takes them: the factors of each projection's content and style slot."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lorarar.artefacts.pipeline import SLOT_PREFIXES, PipelineManifest, Stage, slot_inputs
from lorarar.errors import LorararError
from lorarar.files import Array
from lorarar.formats.named_layers import read_layers
from lorarar.layer import make_layer
from lorarar.lora import Layer, Lora, load_lora, refuse_bad_weights
from lorarar.merge import Coefficients, weighted_sum
from lorarar.methods.scheduled import Schedule
from lorarar.numeric import all_finite, joined_as, narrow, quietly, split_scale, widen
from lorarar.parallel import side_by_side

Factors = dict[str, np.ndarray]  # by input name, see `lorarar.artefacts.pipeline.slot_inputs`


def open_lora(path: Path, manifest: PipelineManifest, source: str, mapped: bool = False) -> Lora:
    """Read a LoRA in any layout that fits the slots, into memory: whoever overwrites its file later
    changes nothing here.

    source: the exported folder, for messages. mapped: leave it on disk, as of a file that nobody
    else writes.

    Raises LorararError as `load_lora` and `slot_factors` do.
    """
    lora = load_lora(path, mapped=mapped)
    _check_fit(lora, manifest, source)
    for name, layer in lora.layers.items():
        for factor in (layer.down, layer.up):
            refuse_bad_weights(np.asarray(factor), name, lora)
    return lora


def check_lora(path: Path, manifest: PipelineManifest, source: str) -> list[str]:
    """Say what of a LoRA's file takes no part in drawing, a line each; reads the header only.

    Raises LorararError as `open_lora` does, but for its weights, which are not looked at.
    """
    named = read_layers(path)
    layers = {
        name: make_layer(parts["up"], parts["down"], 1.0, named.shapes[name])
        for name, parts in named.parts.items()
    }
    lora = Lora(layers, source=str(path), notes=named.notes)
    _check_fit(lora, manifest, source)
    silent = len(layers) - len(_unet_layers(lora))
    if silent:
        said = f"layers of text encoders ({silent}) take no part: exported ones have no slots"
        return [*lora.notes, said]
    return lora.notes


def slot_factors(lora: Lora, manifest: PipelineManifest, source: str, workers: int = 1) -> Factors:
    """Return what goes into the content slots for one LoRA that draws alone.

    Maps `unet.<layer>.lora_A.weight` (rank, in) and `.lora_B.weight` (out, rank) to arrays of the
    export's dtype. alpha is folded in. Layers that the LoRA lacks are left out, so
    cost nothing. Text encoders have no slots: their layers take no part, see `check_lora`. source:
    the exported folder, for messages.

    Raises LorararError if a layer of the UNet has no slot, or another shape than its slot, if a
    rank is over the export's limit, if there is none of these, or if weights are not finite.
    """
    _check_fit(lora, manifest, source)
    dtype = np.dtype(manifest.slot_dtype)

    @quietly
    def both_factors(name: str) -> tuple[np.ndarray, np.ndarray]:
        up, down = scaled_factors(lora.layers[name], dtype)
        return _finite(down, dtype, name, lora), _finite(up, dtype, name, lora)

    widest = max(map(max, manifest.projections.values()))
    made = side_by_side(both_factors, list(_unet_layers(lora)), workers, widest)
    factors: Factors = {}
    for name, (down, up) in made.items():
        down_input, up_input, _ = slot_inputs(_projection(name))
        factors |= {down_input: down, up_input: up}
    return factors


@quietly
def pair_factors(
    pair: tuple[Lora, Lora],
    coefficients: Coefficients,
    scales: Sequence[float],
    manifest: PipelineManifest,
    *,
    source: str,
) -> Factors:
    """Return what goes into the content and style slots for two LoRAs that draw together.

    Maps the slots' inputs to arrays; see `lorarar.artefacts.pipeline.slot_inputs`. pair, scales:
    content, then style, both as `open_lora` gives them; coefficients: of layers that a
    hypernetwork covers, (2, in) float32. Factors stay where they are if the export takes their
    dtype; alpha and scales are folded into m.

    Raises LorararError as `slot_factors` does, but does not look again for weights that are not
    finite.
    """
    if not manifest.pairs:  # both will share a slot
        summed = weighted_sum(*pair, {})
        summed.source = " and ".join(lora.source for lora in pair)
        _check_fit(summed, manifest, source)
    dtype = np.dtype(manifest.slot_dtype)
    one = np.ones(1, np.float32)
    factors: Factors = {}
    columns: Factors = {}
    for side, (prefix, lora, scale) in enumerate(zip(SLOT_PREFIXES, pair, scales, strict=True)):
        _check_fit(lora, manifest, source)
        for name, layer in _unet_layers(lora).items():
            down_input, up_input, m_input = slot_inputs(_projection(name), prefix)
            for factor_input, factor in ((down_input, layer.down), (up_input, layer.up)):
                factors[factor_input] = (
                    np.asarray(factor)
                    if factor.dtype == dtype
                    else _finite(factor, dtype, name, lora)
                )
            m = coefficients[name][side] if name in coefficients else one
            columns[m_input] = m * np.float32(layer.scale * scale)
    if not all_finite(np.concatenate(list(columns.values()))):
        for prefix, lora in zip(SLOT_PREFIXES, pair, strict=True):
            for name in _unet_layers(lora):
                refuse_bad_weights(columns[slot_inputs(_projection(name), prefix)[2]], name, lora)
    return factors | columns


def factors_at(
    done: float, schedule: Schedule, apart: Factors, manifest: PipelineManifest
) -> Factors:
    """Return what goes into the slots after the share `done` of the steps.

    apart: as of `pair_factors`, whose factors stay where they are, but for m. A LoRA that a layer
    does not draw with now is left out, so costs nothing. Where projections have a single slot, it
    gets both LoRAs' factors, joined anew.
    """
    given: Factors = {}
    for name in manifest.projections:
        inputs = [slot_inputs(name, prefix) for prefix in SLOT_PREFIXES]
        if not any(m in apart for *_, m in inputs):
            continue
        weights = schedule(f"unet.{name}", done)
        for (down, up, m), weight in zip(inputs, weights, strict=True):
            if m in apart and weight:
                weighed = apart[m] * np.float32(weight)
                given |= {down: apart[down], up: apart[up], m: weighed}
    return given if manifest.pairs else _in_one_slot(given, manifest)


def _in_one_slot(given: Factors, manifest: PipelineManifest) -> Factors:
    """A pair's factors as those of one LoRA, whose down has both m in it."""
    dtype = np.dtype(manifest.slot_dtype)
    joined: Factors = {}
    for name in manifest.projections:
        inputs = [slot_inputs(name, prefix) for prefix in SLOT_PREFIXES]
        sides = [side for side in inputs if side[2] in given]
        if sides:
            down, up, _ = inputs[0]
            joined[down] = joined_as(dtype, [widen(given[d]) * given[m] for d, _, m in sides], 0)
            joined[up] = joined_as(dtype, [given[u] for _, u, _ in sides], 1)
    return joined


def filled_factors(given: Factors, stage: Stage, dtype: np.dtype) -> Factors:
    """Return every factor of a stage, in its order, for engines that take all of them in one rank.

    Shorter ones and those not given are filled up with zeros, to rank 1 at least.
    """
    rank = max((len(factor) for name, factor in given.items() if ".lora_A." in name), default=1)
    filled = {}
    for projection, (out, width) in stage.projections.items():
        down, up, _ = slot_inputs(projection)
        filled[down] = _filled(given.get(down), (rank, width), dtype)
        filled[up] = _filled(given.get(up), (out, rank), dtype)
    return filled


def scaled_factors(layer: Layer, dtype: np.dtype) -> tuple[Array, Array]:
    """Return up (out, rank) and down (rank, in) with alpha / rank folded in, so that neither loses
    digits in `dtype`, to which they are yet to be rounded."""
    if layer.scale == 1:
        return layer.up, layer.down
    scales = split_scale(layer.scale, layer.up, layer.down, dtype)
    up, down = (
        widen(np.asarray(factor)) * scale
        for factor, scale in zip((layer.up, layer.down), scales, strict=True)
    )
    return up, down


def _projection(name: str) -> str:
    return name.removeprefix("unet.")


def _unet_layers(lora: Lora) -> dict[str, Layer]:
    return {name: layer for name, layer in lora.layers.items() if name.startswith("unet.")}


def _check_fit(lora: Lora, manifest: PipelineManifest, source: str) -> None:
    drawing = _unet_layers(lora)
    if not drawing:
        raise LorararError(
            f"{lora.source}: has layers of text encoders alone, and {source} has no slots for "
            "these; draw with: lorarar generate, without --exported"
        )
    for name, layer in drawing.items():
        slot = manifest.projections.get(_projection(name))
        if slot is None:
            raise LorararError(
                f"{lora.source}: layer '{name}' has no slot in {source}, whose base is "
                f"{manifest.base} and whose slots are the attention layers; give a LoRA of these"
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


def _finite(factor: Array, dtype: np.dtype, name: str, lora: Lora) -> np.ndarray:
    given = np.asarray(factor)
    if given.dtype != dtype:
        given = narrow(widen(given), dtype)
    return refuse_bad_weights(given, name, lora)


def _filled(factor: np.ndarray | None, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    if factor is not None and factor.shape == shape:
        return factor
    filled = np.zeros(shape, dtype)
    if factor is not None:
        filled[: factor.shape[0], : factor.shape[1]] = factor
    return filled
