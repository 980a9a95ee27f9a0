"""LyCORIS' kinds of adapters (arXiv 2309.14859) as what they do to a weight: dense differences."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from lorarar.bases import Shape
from lorarar.errors import LorararError
from lorarar.numeric import widen

Parts = Mapping[str, np.ndarray]  # "hada_w1_a", ... as files name them


def difference_shape(name: str, parts: Parts, source: str) -> Shape:
    """The adapted weight's shape as a matrix, from the shapes of its parts alone.

    Raises LorararError if parts are missing or do not fit each other.
    """
    try:
        return _kind_of(parts).shape(parts)
    except (KeyError, ValueError, IndexError) as error:
        raise LorararError(
            f"{source}: layer '{name}' has {', '.join(sorted(parts))}, of which some are missing "
            "or do not fit each other; get the file again"
        ) from error


def difference(parts: Parts) -> tuple[np.ndarray, int | None]:
    """Return dW before its scale, as a float32 matrix (out, in times the kernel's size), and the
    rank that divides alpha; None where alpha does not count."""
    kind = _kind_of(parts)
    wide = {part: widen(np.asarray(tensor)) for part, tensor in parts.items()}
    return kind.matrix(wide).reshape(kind.shape(parts)), kind.rank(parts)


class Kind(NamedTuple):
    """shape: of the matrix; matrix: dW from float32 parts; rank: that divides alpha."""

    shape: Callable[[Parts], Shape]
    matrix: Callable[[Parts], np.ndarray]
    rank: Callable[[Parts], int | None]


def _kind_of(parts: Parts) -> Kind:
    if "diff" in parts:
        return FULL
    if any(part.startswith("hada_") for part in parts):
        return LOHA
    return LOKR if any(part.startswith("lokr_") for part in parts) else LOCON


def _product_shape(a: np.ndarray, b: np.ndarray, core: np.ndarray | None) -> Shape:
    if core is None:
        (out, rank), (same, columns) = a.shape, b.shape
    else:
        (rank, out), (same, columns) = a.shape, b.shape
        columns *= math.prod(core.shape[2:])
        if core.shape[:2] != (rank, same):
            raise ValueError("core")
    if rank != same:
        raise ValueError("rank")
    return out, columns


def _product(a: np.ndarray, b: np.ndarray, core: np.ndarray | None) -> np.ndarray:
    """a @ b; with a Tucker core (rank, rank, height, width) sum_ij core_ij... a_i b_j."""
    if core is None:
        return a @ b
    return np.einsum("ij...,ip,jr->pr...", core, a, b, optimize=True).reshape(a.shape[1], -1)


def _loha_shape(parts: Parts) -> Shape:
    one, other = (
        _product_shape(parts[f"hada_w{i}_a"], parts[f"hada_w{i}_b"], parts.get(f"hada_t{i}"))
        for i in (1, 2)
    )
    if one != other:
        raise ValueError("halves")
    return one


def _loha(parts: Parts) -> np.ndarray:
    one, other = (
        _product(parts[f"hada_w{i}_a"], parts[f"hada_w{i}_b"], parts.get(f"hada_t{i}"))
        for i in (1, 2)
    )
    return one * other


def _loha_rank(parts: Parts) -> int:
    return parts["hada_w1_b"].shape[0]


def _lokr_shape(parts: Parts) -> Shape:
    one, other = (_lokr_factor_shape(parts, i) for i in (1, 2))
    return one[0] * other[0], one[1] * other[1]


def _lokr_factor_shape(parts: Parts, i: int) -> Shape:
    whole = parts.get(f"lokr_w{i}")
    if whole is not None:
        return whole.shape[0], math.prod(whole.shape[1:])
    core = parts.get(f"lokr_t{i}")
    return _product_shape(parts[f"lokr_w{i}_a"], parts[f"lokr_w{i}_b"], core)


def _lokr(parts: Parts) -> np.ndarray:
    """The Kronecker product of both factors."""
    return np.kron(_lokr_factor(parts, 1), _lokr_factor(parts, 2))


def _lokr_factor(parts: Parts, i: int) -> np.ndarray:
    whole = parts.get(f"lokr_w{i}")
    if whole is not None:
        return whole.reshape(whole.shape[0], -1)
    core = parts.get(f"lokr_t{i}")
    return _product(parts[f"lokr_w{i}_a"], parts[f"lokr_w{i}_b"], core)


def _lokr_rank(parts: Parts) -> int | None:
    return next((parts[b].shape[0] for b in ("lokr_w1_b", "lokr_w2_b") if b in parts), None)


def _locon_shape(parts: Parts) -> Shape:
    up, core, down = parts["up"], parts["mid"], parts["down"]
    if up.shape[1] != core.shape[0] or core.shape[1] != down.shape[0]:
        raise ValueError("rank")
    return up.shape[0], down.shape[1] * math.prod(core.shape[2:])


def _locon(parts: Parts) -> np.ndarray:
    up, down = (parts[part].reshape(parts[part].shape[:2]) for part in ("up", "down"))
    return _product(up.T, down, parts["mid"]) if "mid" in parts else up @ down


def _full_shape(parts: Parts) -> Shape:
    whole = parts["diff"]
    return whole.shape[0], math.prod(whole.shape[1:])


LOHA = Kind(_loha_shape, _loha, _loha_rank)
LOKR = Kind(_lokr_shape, _lokr, _lokr_rank)
LOCON = Kind(_locon_shape, _locon, lambda parts: parts["down"].shape[0])
FULL = Kind(_full_shape, lambda parts: parts["diff"], lambda parts: None)
