"""Preparing one LoRA for many merges: its half of the hypernetwork's first layer, kept.

The first layer is linear, so its input for a pair is a sum of one feature per LoRA (paper section
3.2). N content and M style LoRAs need N + M preparations for N x M merges.
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from lorarar.errors import LorararError
from lorarar.files import Array
from lorarar.hypernet import ROLES, Hypernet, Role
from lorarar.lora import Feature, Layer, Lora, Prepared
from lorarar.numeric import all_finite, narrow, quietly, widen
from lorarar.parallel import cores, side_by_side

Level = Literal["small", "full-fp32", "full-fp16", "full-int8"]
LEVELS: dict[Level, tuple[bool, np.dtype]] = {  # name: (multiplied by down already, dtype)
    "small": (False, np.dtype(np.float16)),
    "full-fp32": (True, np.dtype(np.float32)),
    "full-fp16": (True, np.dtype(np.float16)),
    "full-int8": (True, np.dtype(np.int8)),
}


def prepare(lora: Lora, hypernet: Hypernet, role: Role, level: Level = "full-fp16") -> Lora:
    """Return `lora` with its features for merging as `role` ("content" or "style") kept.

    level: "small" keeps scale * W_role @ up, (hidden, rank) float16 per predicted layer;
    "full-fp32", "full-fp16", "full-int8" keep its product with down, (hidden, in), int8 with one
    scale per row.

    Raises LorararError for an unknown role or level, if the hypernetwork fits another base, or
    if a feature overflows float16.

    >>> from lorarar.standin import standin_lora
    >>> lora, hypernet = standin_lora("koala-700m", rank=2, seed=0), Hypernet.random(hidden=8)
    >>> prepared = prepare(lora, hypernet, "content", level="small").prepared
    >>> prepared.role, prepared.error < 1e-3
    ('content', True)
    """
    if role not in ROLES or level not in LEVELS:
        raise LorararError(
            f"role '{role}', level '{level}': roles are {', '.join(ROLES)}, "
            f"levels are {', '.join(LEVELS)}"
        )
    full, dtype = LEVELS[level]

    @quietly
    def keep(name: str) -> tuple[Feature, float, float]:
        layer = lora.layers[name]
        exact = project(name, layer, hypernet, role)
        if full:
            exact = exact @ widen(np.asarray(layer.down))
        kept = _quantised(exact) if dtype == np.int8 else Feature(narrow(exact, dtype))
        if not (np.isfinite(exact).all() and all_finite(kept.values)):
            raise LorararError(
                f"{lora.source}: layer '{name}' does not fit {dtype} when prepared (NaN, infinite "
                "or too large); check the LoRA, or use --level full-fp32"
            )
        return (
            kept,
            float(np.square(_dequantised(kept) - exact).sum()),
            float(np.square(exact).sum()),
        )

    names = [name for name in lora.layers if hypernet.predicted(name)]
    done = side_by_side(keep, names, cores(), max(hypernet.inputs))
    lost = sum(lost for _, lost, _ in done.values())
    total = sum(total for _, _, total in done.values())
    prepared = Prepared(
        role=role,
        level=level,
        fingerprint=hypernet.fingerprint,
        features={name: kept for name, (kept, _, _) in done.items()},
        error=(lost / total) ** 0.5 if total else 0.0,
    )
    return replace(lora, prepared=prepared)


def features(names: list[str], lora: Lora, hypernet: Hypernet, role: Role) -> np.ndarray:
    """Return scale * W_role @ up @ down of layers of one shape, rank and scale, float32 (layers,
    hidden, in) and fresh, using what is prepared.

    Raises LorararError if the prepared `lora` lacks a layer's features.
    """
    layers = [lora.layers[name] for name in names]
    if lora.prepared is None:
        ups = _stacked([layer.up for layer in layers])
        projected = project(names[0], layers[0]._replace(up=ups), hypernet, role)
    else:
        projected = _stacked([_dequantised(kept_feature(name, lora)) for name in names])
        if lora.prepared.level != "small":
            return projected
    return projected @ widen(_stacked([layer.down for layer in layers]))


def _stacked(factors: list[Array]) -> np.ndarray:
    """(layers, ...), a view if there is only one."""
    arrays = [np.asarray(factor) for factor in factors]
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)


def kept_feature(name: str, lora: Lora) -> Feature:
    """Raises LorararError if the prepared `lora` lacks this layer's features."""
    if lora.prepared is None or name not in lora.prepared.features:
        raise LorararError(
            f"{lora.source}: layer '{name}' has no features; run lorarar prepare again"
        )
    return lora.prepared.features[name]


def check_prepared(lora: Lora, role: Role, fingerprint: str, hypernet_source: str) -> None:
    """Raises LorararError if `lora` was prepared for another role or hypernetwork."""
    if lora.prepared is None:
        return
    if lora.prepared.role != role:
        raise LorararError(
            f"{lora.source}: prepared as {lora.prepared.role} but used as {role}; "
            f"run: lorarar prepare --role {role}"
        )
    if lora.prepared.fingerprint != fingerprint:
        raise LorararError(
            f"{lora.source}: prepared for another hypernetwork than {hypernet_source}; "
            "run lorarar prepare with this one"
        )


def project(name: str, layer: Layer, hypernet: Hypernet, role: Role) -> np.ndarray:
    """Return scale * W_role @ up, (..., hidden, rank) float32, of up (..., out, rank)."""
    up = np.asarray(layer.up)
    projected = hypernet.half(name, up.shape[-2], role) @ widen(up)
    return projected if layer.scale == 1 else projected * np.float32(layer.scale)


def _dequantised(kept: Feature) -> np.ndarray:
    """Return a feature as a fresh float32 array."""
    if kept.scales is not None:
        return np.multiply(kept.values, kept.scales, dtype=np.float32)
    return kept.values.astype(np.float32) if kept.values.dtype != np.float16 else widen(kept.values)


def _quantised(feature: np.ndarray) -> Feature:
    largest = np.abs(feature).max(axis=1, keepdims=True, initial=0)
    scales = np.maximum(largest, np.finfo(np.float32).tiny) / np.float32(127)
    return Feature(np.rint(feature / scales).astype(np.int8), scales)
