"""LoRA files: what people have, read into one form."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lorarar.bases import SHAPES, base_of
from lorarar.errors import LorararError
from lorarar.files import Array, read_safetensors
from lorarar.numeric import all_finite

CANONICAL = re.compile(r"(unet|text_encoder|text_encoder_2)\.(.+)\.(lora_A\.weight|lora_B\.weight)")
FEATURES = (".features", ".feature_scales")  # of a prepared file, see lorarar/prepare.py
PLACES = re.compile(
    r"unet\.((down|up)_blocks\.[012]|mid_block|conv_in|conv_out|time_embedding|add_embedding)\."
    r"|text_encoder(_2)?\.text_model\."
)
NOT_PLAIN = {
    r"\.dora_scale|lora_magnitude_vector": "DoRA",
    r"\.hada_w": "LoHa",
    r"\.lokr_w": "LoKr",
    r"\.lora_mid": "Tucker-decomposed LoCon",
    r"\.oft_": "OFT",
    r"\.[ab][12]\.weight$": "GLoRA",
    r"\.on_input$": "IA3",
    r"\.diff(_b)?$": "full difference",
    r"\.w_norm|\.b_norm": "norm difference",
    r"lora_embedding_": "embedding LoRA",
}
SOME_NOT_PLAIN = re.compile("|".join(NOT_PLAIN))


class Layer(NamedTuple):
    """One adapted layer: dW = scale * up @ down, with scale = alpha / rank.

    up: (out, rank); down: (rank, in), in the file's dtype. Convolutions keep trailing kernel axes.
    """

    up: Array
    down: Array
    scale: float = 1.0

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the adapted weight."""
        return self.up.shape[0], self.down.shape[1]


class Feature(NamedTuple):
    """Half of the hypernetwork's first layer for one layer of a LoRA, kept (METHOD: prepared).

    values: (hidden, rank) at level small, (hidden, in) at level full; float or int8.
    scales: (hidden, 1) float32, with int8 only; values * scales is the feature.
    """

    values: np.ndarray
    scales: np.ndarray | None = None


@dataclass
class Prepared:
    """The features of one LoRA in one role ("content" or "style"), for one hypernetwork.

    error: of the features as kept, against float32, relative in Frobenius norm over all layers.
    """

    role: str
    level: str
    fingerprint: str
    features: dict[str, Feature]
    error: float


@dataclass
class Lora:
    """A LoRA: layers by diffusers name ('unet.' and 'text_encoder*.' included)."""

    layers: dict[str, Layer]
    metadata: dict[str, str] = field(default_factory=dict)
    source: str = "<memory>"
    prepared: Prepared | None = None

    @property
    def base(self) -> str | None:
        """The base model that the attention layers' names and shapes fit, if a known one."""
        return base_of(attention_layers(self.layers))


def load_lora(path: str | Path, canonical_only: bool = False) -> Lora:
    """Read a LoRA of an SDXL-class base: kohya, diffusers (new or old keys), a PEFT folder, or an
    adapter of ONNX Runtime (`lorarar export-adapter`).

    Weights stay on disk until they are used. Only files in other than the canonical layout need
    diffusers (and torch); with `canonical_only` those are refused.

    Raises LorararError for bad files, LoRAs that are not plain and LoRAs of another base.

    >>> from lorarar.embedded import LORAS
    >>> lora = load_lora(LORAS / "votol.safetensors")
    >>> lora.base, len(lora.layers)
    ('mini', 56)
    """
    path = Path(path)
    tensors, metadata, config = _read(path)
    _refuse_not_plain(tensors, path)
    plain = [name for name in tensors if not name.endswith(FEATURES)]
    if all(CANONICAL.fullmatch(name) for name in plain):
        names = {name: name for name in plain}
    elif canonical_only:
        raise LorararError(
            f"{path}: not in the canonical layout; run: lorarar convert {path.name} -o OUT"
        )
    else:
        from lorarar.lora_names import canonical_names

        names = canonical_names(plain, path)
    layers = _pair(names, tensors, config, path)
    _check_base(layers, path)
    return Lora(layers, metadata, str(path), _prepared(tensors, layers, metadata, path))


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str], dict]:
    """Return tensors, metadata, and PEFT's configuration by component ('unet', ...)."""
    if path.is_dir():
        return _read_peft(path)
    if path.suffix == ".onnx_adapter":
        return _read_adapter(path), {}, {}
    tensors, metadata = read_safetensors(path)
    config: dict[str, dict] = {}
    for key, value in _json_object(metadata, "lora_adapter_metadata", path).items():
        component, _, option = key.partition(".")  # diffusers: 'unet.lora_alpha'
        config.setdefault(component, {})[option] = value
    return tensors, metadata, config


def _read_adapter(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise LorararError(f"{path}: does not exist; name an adapter")
    try:
        import onnxruntime
    except ImportError as error:
        raise LorararError(
            f"{path}: an adapter needs ONNX Runtime; run: pip install 'lorarar[onnxruntime]'"
        ) from error
    try:
        adapter = onnxruntime.AdapterFormat.read_adapter(str(path))
        return {name: value.numpy().copy() for name, value in adapter.get_parameters().items()}
    except RuntimeError as error:
        raise LorararError(f"{path}: no usable adapter, or damaged; export it again") from error


def _read_peft(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, str], dict]:
    """Read the UNet's adapter, and text encoders' in folders of their own inside, if any."""
    tensors: dict[str, np.ndarray] = {}
    config = {}
    parts = {"unet": folder} | {name: folder / name for name in ("text_encoder", "text_encoder_2")}
    for component, part in parts.items():
        if component == "unet" or part.is_dir():
            config[component] = _peft_config(part)
            found, _ = read_safetensors(part / "adapter_model.safetensors")
            for name, tensor in found.items():
                tensors[name.replace("base_model.model.", f"{component}.", 1)] = tensor
    return tensors, {}, config


def _peft_config(folder: Path) -> dict:
    try:
        config = json.loads((folder / "adapter_config.json").read_bytes())
        is_dora = config.get("use_dora")
    except (OSError, ValueError, AttributeError) as error:
        raise LorararError(
            f"{folder}: a folder without a readable adapter_config.json ({error}); "
            "name a .safetensors file or a PEFT folder"
        ) from error
    if is_dora:
        raise LorararError(f"{folder}: this is a DoRA; only plain LoRAs can be merged")
    return config


def _json_object(metadata: Mapping[str, str], key: str, path: Path) -> dict:
    try:
        value = json.loads(metadata.get(key, "{}"))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise LorararError(f"{path}: its metadata '{key}' is damaged; get the file again")
    return value


def _refuse_not_plain(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    for name in filter(SOME_NOT_PLAIN.search, tensors):
        kind = next(kind for form, kind in NOT_PLAIN.items() if re.search(form, name))
        raise LorararError(
            f"{path}: tensor '{name}' makes this a {kind}; only plain LoRAs can be merged"
        )


def _pair(
    names: Mapping[str, str], tensors: Mapping[str, np.ndarray], config: dict, path: Path
) -> dict[str, Layer]:
    found = {canonical: tensors[name] for name, canonical in names.items()}
    layers = {}
    for name in found:
        if name.endswith(".alpha"):
            continue
        layer, _, part = name.rpartition(".lora_")
        other = f"{layer}.lora_{'B' if part.startswith('A') else 'A'}.weight"
        if other not in found:
            raise LorararError(f"{path}: layer '{layer}' has no '{other}'; get the file again")
        if not part.startswith("A"):
            continue
        up, down = found[other], found[name]
        _check_factors(layer, up, down, path)
        layers[layer] = Layer(up, down, _scale(layer, down.shape[0], found, config, path))
    if not layers:
        raise LorararError(f"{path}: no LoRA layers found; give a LoRA of an SDXL-class model")
    return layers


def _scale(
    layer: str, rank: int, found: Mapping[str, np.ndarray], config: dict, path: Path
) -> float:
    """alpha / rank, from the layer's own alpha or from PEFT's configuration."""
    alpha = found.get(f"{layer}.alpha")
    if alpha is not None and alpha.size == 1:
        return float(alpha.reshape(())) / rank
    component, _, module = layer.partition(".")
    options = config.get(component)
    if not options:
        return 1.0
    try:
        value = options.get("lora_alpha", rank)
        if options.get("alpha_pattern"):
            from peft.utils.other import get_pattern_key

            pattern = options["alpha_pattern"]
            value = pattern.get(get_pattern_key(pattern, module), value)
        return value / (math.sqrt(rank) if options.get("use_rslora") else rank)
    except (TypeError, AttributeError) as error:
        raise LorararError(
            f"{path}: layer '{layer}' has no usable alpha in adapter_config.json or "
            f"lora_adapter_metadata ({error}); get the LoRA again"
        ) from error


def _check_factors(name: str, up: np.ndarray, down: np.ndarray, path: Path) -> None:
    if up.ndim < 2 or down.ndim < 2 or up.shape[1] != down.shape[0] or not down.shape[0]:
        raise LorararError(
            f"{path}: layer '{name}' has up {up.shape} and down {down.shape}, "
            "whose ranks differ or are 0 (swapped up and down?); save the LoRA again"
        )
    for part in (up, down):
        if part.dtype.kind in "iu":
            raise LorararError(
                f"{path}: layer '{name}' has {part.dtype} weights; save them as F32, F16 or BF16"
            )


def refuse_bad_weights(result: np.ndarray, name: str, *loras: Lora) -> np.ndarray:
    """Return `result`; raise LorararError, naming the file to blame, if it is not finite."""
    if all_finite(result):
        return result
    for lora in loras:
        if name in lora.layers and not all(
            all_finite(np.asarray(factor)) for factor in lora.layers[name][:2]
        ):
            raise LorararError(
                f"{lora.source}: layer '{name}' has NaN or infinite weights; get it again"
            )
    raise LorararError(f"layer '{name}' overflows {result.dtype.name}; use smaller scales")


def attention_layers(layers: Mapping[str, Layer]) -> dict[str, tuple[int, int]]:
    """Map the UNet's attention projections, without 'unet.', to their shapes (out, in)."""
    return {
        name.removeprefix("unet."): layer.shape
        for name, layer in layers.items()
        if name.startswith("unet.") and re.search(r"\.attn\d\.", name)
    }


def _check_base(layers: Mapping[str, Layer], path: Path) -> None:
    for name in layers:
        if not PLACES.match(name):
            raise LorararError(
                f"{path}: layer '{name}' is in no SDXL-class model; this LoRA is for another base"
            )
    found = attention_layers(layers)
    if base_of(found):
        return
    for name, shape in found.items():
        known = {shapes[name] for shapes in SHAPES.values() if name in shapes}
        if shape not in known:
            wanted = " or ".join(f"{out}x{width}" for out, width in sorted(known))
            raise LorararError(
                f"{path}: layer 'unet.{name}' is {shape[0]}x{shape[1]}, but SDXL-class bases have "
                f"{wanted or 'no such layer'}; this LoRA is for another base (SD 1.5, SD 2, Flux)"
            )
    raise LorararError(f"{path}: its layers fit no one base of {', '.join(SHAPES)}")


def _prepared(
    tensors: Mapping[str, np.ndarray],
    layers: Mapping[str, Layer],
    metadata: Mapping[str, str],
    path: Path,
) -> Prepared | None:
    if "lorarar.prepared" not in metadata:
        return None
    about = _json_object(metadata, "lorarar.prepared", path)
    features = {
        name.removesuffix(".features"): Feature(
            values, tensors.get(name.replace(".features", ".feature_scales"))
        )
        for name, values in tensors.items()
        if name.endswith(".features")
    }
    wanted = {"role": str, "level": str, "fingerprint": str, "error": float}
    if {key: type(value) for key, value in about.items()} != wanted or not all(
        name in layers and kept.values.shape[1:] == (_feature_width(about["level"], layers[name]),)
        for name, kept in features.items()
    ):
        raise LorararError(
            f"{path}: its metadata 'lorarar.prepared' does not fit its tensors; "
            "run lorarar prepare again"
        )
    return Prepared(**about, features=features)


def _feature_width(level: str, layer: Layer) -> int:
    return layer.rank if level == "small" else layer.shape[1]
