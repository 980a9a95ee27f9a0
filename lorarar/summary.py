"""What `lorarar inspect` shows: a LoRA's make-up, from the header unless norms are asked for."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lorarar.lora import Layer, Lora
from lorarar.lora_source import read_source
from lorarar.named_layers import FEATURES
from lorarar.numeric import widen

KINDS = {
    "text_encoder": r"text_encoder(_2)?\.",
    "attention": r".*\.attn\d\.",
    "feed-forward": r".*\.ff\.",
    "projection": r".*\.proj_(in|out)$",
    "convolution": r".*(conv|resnets|samplers)",
}
KOHYA = re.compile(r"lora_(unet|te1|te2)_\w+\.(lora_(down|up)\.weight|alpha)")
DIFFUSERS = re.compile(
    r"(unet|text_encoder|text_encoder_2)\.(?!base_model\.|unet\.)"
    r".+\.lora(_A|_B|_linear_layer\.down|_linear_layer\.up)\.weight"
)
PEFT = re.compile(
    r"((unet|text_encoder|text_encoder_2)\.)?base_model\.model\..+\.lora_[AB]\.weight"
)


def kind_of(name: str) -> str:
    """Name the kind of a layer: attention, feed-forward, convolution and so on."""
    return next((kind for kind, form in KINDS.items() if re.match(form, name)), "other")


def norm(layer: Layer) -> float:
    """Frobenius norm of dW, from the Gram matrices of its factors."""
    up, down = (widen(np.asarray(f)).reshape(f.shape[0], -1) for f in layer[:2])
    return abs(layer.scale) * float(np.sqrt(max(0.0, np.sum((up.T @ up) * (down @ down.T)))))


def overview(lora: Lora) -> dict[str, str]:
    """Base model, layers by kind, ranks, scales, dtypes and size; reads no weights."""
    layers = lora.layers.values()
    path = Path(lora.source)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    bases = ", ".join(lora.bases) or "unknown"
    facts = {
        "base model": f"any of {bases}" if ", " in bases else bases,
        "layers": _counted(Counter(map(kind_of, lora.layers))),
        "ranks": _counted(Counter(layer.rank for layer in layers)),
        "alpha / rank": _counted(Counter(f"{layer.scale:g}" for layer in layers)),
        "dtype": _counted(Counter(layer.up.dtype.name for layer in layers)),
        "size": f"{size / 1e6:.1f} MB",
    }
    if path.exists():
        facts["read by"] = readers(read_source(path).tensors)
    if lora.prepared:
        kept = lora.prepared
        facts["prepared"] = f"as {kept.role}, level {kept.level}, relative error {kept.error:.1e}"
    return facts


def readers(tensors: Iterable[str]) -> str:
    """Name the tools that understand all of these names, and what to do for others."""
    names = [name for name in tensors if not name.endswith(FEATURES)]
    if all(map(KOHYA.fullmatch, names)):
        return "lorarar, diffusers, ComfyUI, A1111, sd-scripts, stable-diffusion.cpp"
    tools = "lorarar"
    if all(map(DIFFUSERS.fullmatch, names)):
        attention = sum(".attn" in name and ".lora_A." in name for name in names)
        left_out = f" but for {attention} attention layers" if attention else ""
        tools = f"lorarar, diffusers, ComfyUI{left_out}"
    elif all(map(PEFT.fullmatch, names)):
        tools = "lorarar, PEFT"
    return f"{tools}; for others: lorarar convert --format kohya"


def _counted(counter: Counter) -> str:
    return ", ".join(f"{value} ({count} layers)" for value, count in counter.most_common())
