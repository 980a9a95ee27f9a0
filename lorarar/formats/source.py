"""Where a LoRA's tensors come from: a file, or a folder of PEFT's or of diffusers'."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lorarar.errors import LorararError
from lorarar.files import read_safetensors
from lorarar.formats.peft_config import PeftConfig

ADAPTER, CONFIG = "adapter_model.safetensors", "adapter_config.json"
DIFFUSERS = "pytorch_lora_weights.safetensors"
COMPONENTS = ("unet", "text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Source:
    """Tensors by name; configs: PEFT's, by the component that they are about, ""
    where they are about all."""

    path: Path
    tensors: dict[str, np.ndarray]
    metadata: dict[str, str] = field(default_factory=dict)
    configs: dict[str, PeftConfig] = field(default_factory=dict)

    def config(self, component: str) -> PeftConfig | None:
        """What PEFT's configuration says of a component, if there is one."""
        return self.configs.get(component) or self.configs.get("")


def read_source(path: Path, mapped: bool = True) -> Source:
    """Open a LoRA file, an adapter of ONNX Runtime, or a folder.

    mapped: see `lorarar.files.read_safetensors`.

    A folder is an adapter of PEFT's, with text encoders' in folders inside or beside one named
    `unet`, or has diffusers' `pytorch_lora_weights.safetensors`.

    Raises LorararError for files that are missing or damaged, and for pickles.
    """
    if path.is_dir():
        return _read_folder(path, mapped)
    if path.name == ADAPTER and (path.parent / CONFIG).exists():
        tensors, metadata = read_safetensors(path, mapped)
        return Source(path, tensors, metadata, {"": _read_config(path.parent)})
    if path.suffix == ".onnx_adapter":
        return Source(path, _read_adapter(path))
    tensors, metadata = read_safetensors(path, mapped)
    options: dict[str, dict[str, Any]] = {}
    for key, value in json_object(metadata, "lora_adapter_metadata", path).items():
        component, _, option = key.partition(".")  # diffusers: 'unet.lora_alpha'
        options.setdefault(component, {})[option] = value
    configs = {
        component: PeftConfig.read(given, f"{path}: its metadata 'lora_adapter_metadata'")
        for component, given in options.items()
    }
    return Source(path, tensors, metadata, configs)


def weights_file(path: Path) -> Path:
    """The file that identifies a LoRA: itself, or a folder's first."""
    if not path.is_dir():
        return path
    inside = (path / ADAPTER, path / DIFFUSERS, *(path / name / ADAPTER for name in COMPONENTS))
    return next((file for file in inside if file.exists()), path)


def _read_folder(folder: Path, mapped: bool) -> Source:
    adapters = {"": folder} if (folder / CONFIG).exists() else {}
    adapters |= {name: folder / name for name in COMPONENTS if (folder / name / CONFIG).exists()}
    if not adapters and (whole := _weights_in(folder, DIFFUSERS)).exists():
        return read_source(whole, mapped)
    if not adapters:
        raise LorararError(
            f"{folder}: a folder without {CONFIG} or {DIFFUSERS}; "
            "name a .safetensors file or a PEFT folder"
        )
    tensors: dict[str, np.ndarray] = {}
    metadata: dict[str, str] = {}
    configs: dict[str, PeftConfig] = {}
    for component, part in adapters.items():
        configs[component] = _read_config(part)
        found, about = read_safetensors(_weights_in(part, ADAPTER), mapped)
        metadata |= about
        prefix = f"{component}." if component else ""
        tensors |= {prefix + name: tensor for name, tensor in found.items()}
    return Source(folder, tensors, metadata, configs)


def _read_config(folder: Path) -> PeftConfig:
    path = folder / CONFIG
    try:
        options = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise LorararError(f"{path}: cannot be read ({error}); get the adapter again") from error
    return PeftConfig.read(options, str(path))


def _weights_in(folder: Path, name: str) -> Path:
    """The safetensors file of this name, or the pickle in its place, to be refused as one."""
    file = folder / name
    pickle = file.with_suffix(".bin")
    return pickle if pickle.exists() and not file.exists() else file


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


def json_object(metadata: Mapping[str, str], key: str, path: Path) -> dict[str, Any]:
    """Return what a file's metadata says in JSON, {} if nothing.

    Raises LorararError if it is no JSON object.
    """
    try:
        value = json.loads(metadata.get(key, "{}"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise LorararError(f"{path}: its metadata '{key}' is damaged; get the file again")
    return value
