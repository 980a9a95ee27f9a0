"""Any adapter as a plain LoRA of a given rank: LyCORIS' kinds, full differences, DoRA."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorarar.bases import BASES
from lorarar.errors import LorararError
from lorarar.files import read_safetensors
from lorarar.layer import common_dtype, make_layer
from lorarar.lora import Layer, Lora
from lorarar.lora_names import meanings, spelling_of
from lorarar.lora_source import COMPONENTS
from lorarar.lycoris import difference
from lorarar.named_layers import CONVERTIBLE, PLAIN, NamedLayers, read_layers, scale_of
from lorarar.numeric import all_finite, narrow, quietly, widen
from lorarar.parallel import cores, side_by_side

EVERY_PART = (*PLAIN, *(part for parts in CONVERTIBLE.values() for part in parts))
DORA = {*CONVERTIBLE["DoRA"]}
SPARE_RANK, ROUNDS = 8, 4  # of the randomised SVD, for the largest singular values' last digits


@dataclass(frozen=True)
class Conversion:
    """errors: of each layer's dW as it is written, relative in Frobenius norm; error: of all."""

    lora: Lora
    errors: dict[str, float]
    error: float


@quietly
def convert_lora(path: str | Path, rank: int, model: str | Path | None = None) -> Conversion:
    """Read a LoRA, LoCon, LoHa, LoKr, DoRA or full difference as a LoRA of at most this rank.

    model: the base, as a diffusers folder or a .safetensors file; a DoRA needs it, as its
    difference is m * (W + dW) / |W + dW| - W, with norms of rows or columns (arXiv 2402.09353).

    Raises LorararError as `load_lora`, and if a DoRA's base weights are missing.
    """
    named = read_layers(Path(path), EVERY_PART)
    weights = _base_weights(model, named)

    def reduce(name: str) -> tuple[Layer, float, float]:
        parts, shape = named.parts[name], named.shapes[name]
        dtype = common_dtype(*(tensor.dtype for part, tensor in parts.items() if part != "alpha"))
        exact = _difference(name, named, weights)
        if not np.isfinite(exact).all():
            raise LorararError(f"{path}: layer '{name}' has NaN or infinite weights; get it again")
        if parts.keys() <= {*PLAIN}:
            scale = scale_of(name, len(parts["down"]), named)
            layer = make_layer(parts["up"], parts["down"], scale, shape)
            if layer.rank <= rank:
                return layer, 0.0, _square(exact)
        up, down = (narrow(factor, dtype) for factor in low_rank(exact, rank))
        if not (all_finite(up) and all_finite(down)):
            raise LorararError(f"{path}: layer '{name}' overflows {dtype}; save it as F32 first")
        lost = exact - widen(up) @ widen(down)
        return make_layer(up, down, 1.0, shape), _square(lost), _square(exact)

    widest = max(shape[0] for shape in named.shapes.values())
    done = side_by_side(reduce, list(named.parts), cores(), widest)
    layers = {name: layer for name, (layer, _, _) in done.items()}
    errors = {name: _relative(lost, whole) for name, (_, lost, whole) in done.items()}
    lost_in_all = sum(lost for _, lost, _ in done.values())
    whole = sum(whole for _, _, whole in done.values())
    lora = Lora(layers, named.source.metadata, str(path), notes=named.notes)
    return Conversion(lora, errors, _relative(lost_in_all, whole))


def low_rank(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the best factors up (out, rank) and down (rank, in) of a float32 matrix, as large as
    each other.

    By a randomised SVD (arXiv 0909.4061, algorithm 4.4), as a full one takes minutes a layer.
    """
    rank = min(rank, *matrix.shape)
    width = min(rank + SPARE_RANK, *matrix.shape)
    start = np.random.default_rng(0).standard_normal((matrix.shape[1], width), np.float32)
    basis = np.linalg.qr(matrix @ start)[0]
    for _ in range(ROUNDS):
        basis = np.linalg.qr(matrix @ np.linalg.qr(matrix.T @ basis)[0])[0]
    u, values, v = np.linalg.svd(basis.T @ matrix, full_matrices=False)
    root = np.sqrt(values[:rank])
    return (basis @ u[:, :rank]) * root, root[:, None] * v[:rank]


def _difference(name: str, named: NamedLayers, weights: dict[str, np.ndarray]) -> np.ndarray:
    """dW as a float32 matrix (out, in times the kernel's size)."""
    parts, shape = named.parts[name], named.shapes[name]
    if "up" in parts and "mid" not in parts:
        layer = make_layer(parts["up"], parts["down"], 1.0, shape)
        up, down = (widen(np.asarray(x)).reshape(x.shape[0], -1) for x in (layer.up, layer.down))
        matrix = up @ down * np.float32(scale_of(name, len(parts["down"]), named))
    else:
        unscaled, rank = difference(parts)
        matrix = unscaled * np.float32(scale_of(name, rank, named))
    if not DORA & parts.keys():
        return matrix
    return _decomposed(weights[name], matrix, _magnitude(name, named), shape)


def _magnitude(name: str, named: NamedLayers) -> np.ndarray:
    """PEFT's, of each row, or LyCORIS', of each row or each column: (out, 1, 1) or (1, in, 1)."""
    parts, (out, width, *_) = named.parts[name], named.shapes[name]
    if "magnitude" in parts and parts["magnitude"].size == out:
        return parts["magnitude"].reshape(out, 1, 1)
    scale = parts.get("dora_scale", np.empty(0, np.float32))
    if scale.size == out and len(scale) == out:
        return scale.reshape(out, 1, 1)
    if scale.size == width and scale.shape[:2] == (1, width):
        return scale.reshape(1, width, 1)
    raise LorararError(
        f"{named.source.path}: layer '{name}' has a magnitude that fits neither its {out} rows nor "
        f"its {width} columns; get it again"
    )


def _decomposed(
    base: np.ndarray, difference: np.ndarray, magnitude: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """magnitude: (out, 1, 1) or (1, in, 1)."""
    before = widen(base).reshape(shape[0], shape[1], -1)
    after = before + difference.reshape(before.shape)
    axes = tuple(axis for axis in range(3) if magnitude.shape[axis] == 1)
    norms = np.sqrt(np.square(after).sum(axes, keepdims=True)) + np.finfo(np.float32).eps
    return (widen(magnitude) / norms * after - before).reshape(difference.shape)


def _base_weights(model: str | Path | None, named: NamedLayers) -> dict[str, np.ndarray]:
    """The weights of the layers that are DoRAs, memory-mapped, in diffusers' names or sgm's."""
    wanted = {name for name, parts in named.parts.items() if DORA & parts.keys()}
    if not wanted:
        return {}
    if model is None:
        raise LorararError(
            f"{named.source.path}: this is a DoRA, whose difference depends on the base model's "
            "weights; name it with --model"
        )
    found = {}
    for prefix, file in _weight_files(Path(model)):
        for tensor, weight in read_safetensors(file)[0].items():
            spelling = spelling_of(prefix + tensor.removesuffix(".weight"))
            for layer in meanings(spelling, BASES[named.base].layers_per_block):
                if layer in wanted and weight.shape == named.shapes[layer]:
                    found[layer] = weight
    for layer in wanted - found.keys():
        raise LorararError(
            f"{model}: has no weights of layer '{layer}'; name the DoRA's base model"
        )
    return found


def _weight_files(model: Path) -> list[tuple[str, Path]]:
    """Files with the prefix of their tensors' names; those of full precision last."""
    if model.is_file():
        return [("", model)]
    files = [
        (f"{part}.", file) for part in COMPONENTS for file in model.glob(f"{part}/*.safetensors")
    ]
    if not files:
        raise LorararError(f"{model}: neither a diffusers folder nor a file; name the base model")
    return sorted(files, key=lambda entry: ".fp16." not in entry[1].name)


def _square(matrix: np.ndarray) -> float:
    return float(np.square(matrix, dtype=np.float64).sum())


def _relative(lost: float, whole: float) -> float:
    return (lost / whole) ** 0.5 if whole else 0.0
