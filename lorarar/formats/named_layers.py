"""A LoRA's tensors sorted by layer: every one is a part of a layer, or is spoken of."""

import math
import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorarar.bases import BASES, Shape, covers, layer_shapes, matrix_shapes
from lorarar.errors import LorararError
from lorarar.formats.lycoris import difference_shape
from lorarar.formats.source import Source, read_source
from lorarar.layer import check_part, check_ranks, fits, matrix_shape
from lorarar.lora_names import Part, meanings, spelling_of, split_name

FEATURES = (".features", ".feature_scales")  # of a prepared file, see lorarar/prepare.py
PLAIN: tuple[Part, ...] = ("down", "up", "alpha")
CONVERTIBLE: dict[str, tuple[Part, ...]] = {
    "DoRA": ("dora_scale", "magnitude"),
    "LoHa": ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    "LoKr": ("lokr_w1", "lokr_w2", "lokr_t2", "lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"),
    "full difference": ("diff", "diff_b"),
    "Tucker-decomposed LoCon": ("mid",),
}
REFUSED = {
    r"\.oft_|\.boft_": "OFT",
    r"\.[ab][12]\.weight$": "GLoRA",
    r"\.on_input$|\.ia3_": "IA3",
    r"\.w_norm|\.b_norm": "norm difference",
    r"lora_embedding_|\.emb_params$": "embedding LoRA",
    r"\.lora_E|ranknum": "AdaLoRA",
    r"\.vera_": "VeRA",
}
SOME_REFUSED = re.compile("|".join(REFUSED))
Parts = dict[Part, np.ndarray]
EMBEDDING = re.compile(r"(token|position)_embedding$")
MOST_ALPHAS = 65_536  # copies of one alpha in a tensor


@dataclass(frozen=True)
class NamedLayers:
    """base: the likeliest; parts: canonical layer -> its tensors; shapes: of the base's weights;
    notes: what was left out, a line each."""

    source: Source
    base: str
    parts: dict[str, Parts]
    shapes: dict[str, tuple[int, ...]]
    notes: list[str]


def read_layers(path: Path, taken: Container[Part] = PLAIN, *, mapped: bool = True) -> NamedLayers:
    """Read a LoRA's tensors, each under its layer of an SDXL-class base; no values are looked at.

    mapped: see `lorarar.files.read_safetensors`.

    Raises LorararError as `read_source`, and for parts that are not `taken`, layers without all
    of their factors, and layers of other bases.
    """
    source = read_source(path, mapped)
    if "magnitude" not in taken and any(config.is_dora for config in source.configs.values()):
        raise LorararError(f"{path}: this is a DoRA; {_remedy(path)}")
    names, others = _by_layer(source)
    notes = _notes_on(others, source)
    _refuse_untaken(names, taken, path)
    layers = {
        layer: {part: source.tensors[name] for part, name in parts.items()}
        for layer, parts in names.items()
    }
    notes += _leave_out(layers, _alphas_alone(layers), "layers that have an alpha alone")
    notes += _leave_out(layers, _without_a_matrix(layers), "biases, norms and embeddings")
    biased = [name for name, parts in layers.items() if parts.pop("diff_b", None) is not None]
    notes += [_left_out(biased, "biases, of layers as")] if biased else []
    shapes = {name: _matrix_shape(name, parts, path) for name, parts in layers.items()}
    empty = [name for name, parts in layers.items() if "down" in parts and not len(parts["down"])]
    notes += _leave_out(layers, empty, "layers whose ranks are 0")
    if not layers:
        reason = "".join(f" ({note})" for note in notes)
        raise LorararError(
            f"{path}: no LoRA layers found{reason}; give a LoRA of an SDXL-class model"
        )
    base, canonical = _resolve({name: shapes[name] for name in layers}, path)
    known = layer_shapes(BASES[base])
    for name, parts in layers.items():
        shape = known[canonical[name]]
        if "up" in parts and "mid" not in parts and not fits(parts["up"], parts["down"], shape):
            raise LorararError(
                f"{path}: layer '{name}' has up {parts['up'].shape} and down "
                f"{parts['down'].shape}, which make no {shape}; save the LoRA again"
            )
    return NamedLayers(
        source,
        base,
        {canonical[name]: parts for name, parts in layers.items()},
        {layer: known[layer] for layer in canonical.values()},
        notes,
    )


def _by_layer(source: Source) -> tuple[dict[str, dict[Part, str]], list[str]]:
    """Layer, as the file names it -> part -> tensor; and the tensors that are no part of one."""
    layers: dict[str, dict[Part, str]] = {}
    others = []
    for tensor in source.tensors:
        found = split_name(tensor)
        if found is None:
            others.append(tensor)
            continue
        layer, part = found
        twin = layers.setdefault(layer, {}).setdefault(part, tensor)
        if twin != tensor:
            raise LorararError(
                f"{source.path}: tensors '{twin}' and '{tensor}' are the same part of a layer, of "
                "several adapters in one file; save one alone"
            )
    return layers, others


def _notes_on(others: list[str], source: Source) -> list[str]:
    """Refuse tensors that do something to a layer, or make something else of the file."""
    for name in filter(SOME_REFUSED.search, others):
        kind = next(kind for form, kind in REFUSED.items() if re.search(form, name))
        raise LorararError(
            f"{source.path}: tensor '{name}' makes this a {kind}; only plain LoRAs can be merged"
        )
    if "lorarar.prepared" in source.metadata:
        others = [name for name in others if not name.endswith(FEATURES)]
    touching = [name for name in others if _touches_a_layer(name)]
    if touching or (others and len(others) == len(source.tensors)):
        raise LorararError(
            f"{source.path}: tensor '{(touching or others)[0]}' belongs to no plain LoRA; "
            "give an SDXL LoRA"
        )
    return [_left_out(others, "tensors that belong to no layer")] if others else []


def _touches_a_layer(tensor: str) -> bool:
    parts = tensor.split(".")
    owners = (".".join(parts[:-end]) for end in (1, 2, 3) if end < len(parts))
    return any(_any_base_has(owner) for owner in owners)


def _any_base_has(name: str) -> list[str]:
    spelling = spelling_of(name)
    numberings = sorted({base.layers_per_block for base in BASES.values()})
    return [layer for number in numberings for layer in meanings(spelling, number)]


def _alphas_alone(layers: dict[str, Parts]) -> list[str]:
    return [name for name, parts in layers.items() if parts.keys() == {"alpha"}]


def _without_a_matrix(layers: dict[str, Parts]) -> list[str]:
    """Layers of a full difference that no LoRA can adapt."""
    return [
        name
        for name, parts in layers.items()
        if parts.keys() <= {"diff", "diff_b"}
        and ("diff" not in parts or parts["diff"].ndim < 2 or EMBEDDING.search(name))
    ]


def _leave_out(layers: dict[str, Parts], names: list[str], what: str) -> list[str]:
    for name in names:
        del layers[name]
    return [_left_out(names, what)] if names else []


def _left_out(names: list[str], what: str) -> str:
    return f"left out {len(names)} {what}: '{names[0]}'{', ...' if len(names) > 1 else ''}"


def _refuse_untaken(names: dict[str, dict[Part, str]], taken: Container[Part], path: Path) -> None:
    for layer, parts in names.items():
        for part, tensor in parts.items():
            if part in taken:
                continue
            if part == "bias":
                raise LorararError(
                    f"{path}: tensor '{tensor}' changes the bias of '{layer}' (lora_bias), which "
                    "a plain LoRA cannot; train without it"
                )
            kind = next(kind for kind, known in CONVERTIBLE.items() if part in known)
            raise LorararError(f"{path}: tensor '{tensor}' makes this a {kind}; {_remedy(path)}")


def _remedy(path: Path) -> str:
    return (
        "only plain LoRAs can be merged; make one of it: "
        f"lorarar convert {path.name} -o OUT.safetensors --rank 32"
    )


def _matrix_shape(name: str, parts: Parts, path: Path) -> Shape:
    for part, tensor in parts.items():
        if part != "alpha":
            check_part(tensor, name, str(path))
    if "up" not in parts and "down" not in parts:
        return difference_shape(name, parts, str(path))
    for part, ending in (("up", "lora_B"), ("down", "lora_A")):
        if part not in parts:
            raise LorararError(
                f"{path}: layer '{name}' has no {part} factor ({ending}); get the file again"
            )
    check_ranks(parts["up"], parts["down"], name, str(path))
    if "mid" in parts:
        return difference_shape(name, parts, str(path))
    return matrix_shape(parts["up"], parts["down"])


def _resolve(shapes: dict[str, Shape], path: Path) -> tuple[str, dict[str, str]]:
    """The likeliest base that has all layers, and the layers' canonical names in it."""
    spellings = {name: spelling_of(name) for name in shapes}
    numberings = {base.layers_per_block for base in BASES.values()}
    meant = {
        number: {name: meanings(spelling, number) for name, spelling in spellings.items()}
        for number in numberings
    }
    fitting = {}
    for base_name, base in BASES.items():
        known = matrix_shapes(base)
        found = {
            name: layer
            for name, layers in meant[base.layers_per_block].items()
            for layer in layers
            if known.get(layer) == shapes[name]
        }
        if len(found) == len(shapes):
            fitting[base_name] = found
    if not fitting:
        raise _other_base(shapes, path)
    likeliest = min(fitting, key=lambda name: not covers(fitting[name].values(), BASES[name]))
    _refuse_twins(fitting[likeliest], path)
    return likeliest, fitting[likeliest]


def _refuse_twins(canonical: dict[str, str], path: Path) -> None:
    first: dict[str, str] = {}
    for name, layer in canonical.items():
        if first.setdefault(layer, name) != name:
            raise LorararError(
                f"{path}: '{first[layer]}' and '{name}' name the same layer '{layer}'; "
                "save one of them alone"
            )


def _other_base(shapes: dict[str, Shape], path: Path) -> LorararError:
    for name, shape in shapes.items():
        layers = _any_base_has(name)
        if not layers:
            return LorararError(
                f"{path}: layer '{name}' is in no SDXL-class model; this LoRA is for another base"
            )
        tables = map(matrix_shapes, BASES.values())
        known = {table[layer] for table in tables for layer in layers if layer in table}
        if shape not in known:
            wanted = " or ".join(f"{out}x{width}" for out, width in sorted(known))
            return LorararError(
                f"{path}: layer '{name}' is {shape[0]}x{shape[1]}, but SDXL-class bases have "
                f"{wanted}; this LoRA is for another base (SD 1.5, SD 2, Flux)"
            )
    return LorararError(f"{path}: its layers fit no one base of {', '.join(BASES)}")


def scale_of(layer: str, rank: int | None, named: NamedLayers) -> float:
    """alpha / rank, from the layer's own alpha or from PEFT's configuration, 1 without either.

    rank: None where the layer's own alpha does not count.

    Raises LorararError if its alpha is no finite number.
    """
    component, _, module = layer.partition(".")
    config, alpha = named.source.config(component), named.parts[layer].get("alpha")
    if alpha is not None:
        return _number(alpha, layer, named.source.path) / rank if rank else 1.0
    return config.scale(module, rank or int(config.rank)) if config else 1.0


def _number(alpha: np.ndarray, layer: str, path: Path) -> float:
    values = set(alpha.reshape(-1).tolist()) if alpha.size <= MOST_ALPHAS else set()
    value = values.pop() if len(values) == 1 else math.nan
    if isinstance(value, bool | complex) or not abs(value) < math.inf:
        raise LorararError(
            f"{path}: layer '{layer}' has an alpha that is no single finite number; "
            "write the right one into the file"
        )
    return float(value)
