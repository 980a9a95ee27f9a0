"""A model's checkpoint, found and checked before anything of it is loaded or traced."""

import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lorarar import embedded
from lorarar.artefacts.configurations import Use, check_index, check_keys, check_together
from lorarar.artefacts.scheduler import FILE as SCHEDULER
from lorarar.artefacts.scheduler import Config, resolve_noise
from lorarar.diffusion.single_file import convert
from lorarar.diffusion.weights import FP16, check_weights, read_weights, weight_file, weight_variant
from lorarar.errors import LorararError

MODULES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        UNet2DConditionModel,
        AutoencoderKL,
        AutoencoderTiny,
        CLIPTextModel,
        CLIPTextModelWithProjection,
    )
}
LOADED = ("unet", "vae", "text_encoder", "text_encoder_2")  # parts with weights


def open_checkpoint(name: str | Path, use: Use) -> Path:
    """Return the diffusers folder of a model: "mini", a folder, a single file or a hub id.

    Raises LorararError if there is none, or if `use` does not honour a value of its
    configurations, or if weights are missing, misshapen or unknown.
    """
    folder = find_checkpoint(str(name))
    classes = check_index(read_json(folder / "model_index.json"), use, folder / "model_index.json")
    configs, modules = {}, {}
    for part in LOADED:
        file = folder / part / "config.json"
        raw, defaults = read_json(file), library_defaults(classes[part])
        check_keys(classes[part], raw, use, defaults, file)
        configs[part] = defaults | raw
        with torch.device("meta"):
            modules[part] = build(classes[part], raw, file)
    check_together(configs, folder)
    check_scheduler(folder, use)
    variant = weight_variant(folder, [*LOADED])
    for part, module in modules.items():
        file = weight_file(folder / part, variant)
        check_weights(read_weights(file), module, file)
    return folder


def scheduler_config(folder: Path) -> Config:
    """Read a diffusers folder's scheduler, with the class that diffusers loads.

    Raises LorararError if it is missing or damaged.
    """
    index = folder / "model_index.json"
    named = read_json(index).get("scheduler")
    if not (isinstance(named, list) and len(named) == 2 and isinstance(named[1], str)):
        raise LorararError(f"{index}: its scheduler is missing; give an SDXL-class model")
    return read_json(folder / SCHEDULER) | {"_class_name": named[1]}


def check_scheduler(folder: Path, use: Use) -> None:
    """Raise LorararError if a diffusers folder's scheduler is not fit for this; for exporting see
    `lorarar.export.rest`."""
    config, source = scheduler_config(folder), folder / SCHEDULER
    if use == "train":
        resolve_noise(config, source)
    kind = config["_class_name"]
    if "scale_model_input" not in dir(getattr(diffusers, kind, None)):  # as SDXL's pipeline needs
        raise LorararError(f"{source}: {kind} does not draw with SDXL; give an SDXL-class model")


def find_checkpoint(name: str) -> Path:
    """Return the diffusers folder of this name; a hub id's is downloaded, a single file converted.

    Raises LorararError if there is none.
    """
    if name == embedded.NAME:
        return embedded.BASE
    path = Path(name)
    if path.is_dir():
        return path
    if path.is_file():
        return convert(path)
    reasons = []
    for variant in (None, FP16):
        try:
            folder = Path(
                StableDiffusionXLPipeline.download(name, use_safetensors=True, variant=variant)
            )
            weight_variant(folder, [*LOADED])
            return folder
        except (OSError, ValueError, LorararError) as error:
            reasons.append(str(error).strip().splitlines()[0])
    raise LorararError(
        f"{name}: no file or folder here, and no hub id that can be had ({reasons[0]}); "
        "give a diffusers folder or a single file of an SDXL-class model"
    )


def read_json(file: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises LorararError if it is missing or damaged.
    """
    try:
        return dict(json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise LorararError(
            f"{file}: unusable ({error}); give a diffusers folder of an SDXL-class model"
        ) from error


def library_defaults(kind: str) -> dict[str, Any]:
    """Return what the installed diffusers or transformers takes where a configuration is silent."""
    if issubclass(MODULES[kind], CLIPTextModel | CLIPTextModelWithProjection):
        return CLIPTextConfig().to_dict()
    parameters = inspect.signature(MODULES[kind].__init__).parameters
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


def build(kind: str, config: dict[str, Any], source: Path) -> Any:
    """Build a part of a pipeline without its weights.

    Raises LorararError if its configuration's values do not go together; source: its file.
    """
    made = MODULES[kind]
    try:
        if hasattr(made, "from_config"):
            return made.from_config(config)
        return made(CLIPTextConfig(**config))
    except Exception as error:  # a library may raise any for values that it cannot build
        raise LorararError(
            f"{source}: no {kind} can be built of it ({error}); get the model again"
        ) from error
