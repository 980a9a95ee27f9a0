"""Single-file checkpoints, SDXL's original layout, as diffusers folders in the user's cache.

diffusers converts the weights. A single file holds no configurations and no tokenizers: they come
from a folder beside it, named as the file without its suffix, or else from the hub.
"""

import hashlib
import json
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from filelock import FileLock

from lorarar.command import console
from lorarar.errors import LorararError
from lorarar.files import read_safetensors, user_cache, write_folder_atomically
from lorarar.quiet import without_bars

PREFIXES = {  # of the original names -> the part of the pipeline
    "model.diffusion_model.": "unet",
    "first_stage_model.": "vae",
    "conditioner.embedders.0.transformer.": "text_encoder",
    "conditioner.embedders.1.model.": "text_encoder_2",
}
MARKS: dict[str, dict[str, Any]] = {  # tensors that say how the model was trained
    "v_pred": {"prediction_type": "v_prediction"},
    "ztsnr": {"rescale_betas_zero_snr": True},
}
NEEDLESS = (  # what training leaves, and CLIP's scale of its loss
    "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
    "conditioner.embedders.1.model.logit_scale",
    "denoiser.sigmas",
)
CONFIGURATIONS = "stabilityai/stable-diffusion-xl-base-1.0"
NARROW = {"float16": torch.float16, "bfloat16": torch.bfloat16}  # where all weights are so


def convert(file: Path) -> Path:
    """Return a diffusers folder with the weights of a single file; it is made once.

    Raises LorararError if the file is damaged or of another layout, if configurations cannot be
    had, or if weights are missing or find no place.
    """
    beside = file.with_suffix("")
    sources = [file, *sorted(path for path in beside.rglob("*") if path.is_file())]
    versions = [
        (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in sources
    ]
    digest = hashlib.sha256(json.dumps(versions).encode()).hexdigest()[:16]
    folder = user_cache("checkpoints") / f"{file.stem}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(".lock")):
        if not folder.exists():
            with console.status(f"{file.name}: converting, once"), without_bars():
                pipeline = _load(file, beside if beside.is_dir() else None)
                write_folder_atomically(folder, pipeline.save_pretrained, force=False)
    return folder


def _load(file: Path, configurations: Path | None) -> Any:
    tensors, _ = read_safetensors(file)
    counts: Counter[str] = Counter()
    dtypes = set()
    for name, tensor in tensors.items():
        part = next((PREFIXES[prefix] for prefix in PREFIXES if name.startswith(prefix)), None)
        if name in MARKS or name in NEEDLESS:
            continue
        if part is None:
            raise LorararError(
                f"{file}: holds '{name}', which is none of SDXL's single-file layout; "
                "give a diffusers folder of the model"
            )
        counts[part] += prod(tensor.shape)
        dtypes.add(str(tensor.dtype))
    dtype = next((kind for name, kind in NARROW.items() if dtypes == {name}), torch.float32)
    try:
        pipeline = StableDiffusionXLPipeline.from_single_file(
            str(file),
            config=str(configurations) if configurations else None,
            torch_dtype=dtype,
            add_watermarker=False,
        )
    except NotImplementedError as error:  # what torch says to weights that are still without values
        raise LorararError(f"{file}: lacks some of its model's weights; get it again") from error
    except Exception as error:  # a converter of many layouts, each with errors of its own
        reason = next(iter(str(error).strip().splitlines()), repr(error))
        raise LorararError(
            f"{file}: cannot be converted ({reason}); put the configurations and tokenizers of its "
            f"model (for most the .json and .txt files of {CONFIGURATIONS}) into the folder "
            f"{file.with_suffix('')}"
        ) from error
    for part, count in counts.items():
        placed = sum(weight.numel() for weight in getattr(pipeline, part).parameters())
        if placed != count:
            raise LorararError(
                f"{file}: has {count} numbers for the {part}, but its configuration has room for "
                f"{placed}; put the model's own configurations into {file.with_suffix('')}"
            )
    marks = {key: value for name in MARKS if name in tensors for key, value in MARKS[name].items()}
    if marks:
        pipeline.scheduler = type(pipeline.scheduler).from_config(
            pipeline.scheduler.config, **marks
        )
    return pipeline
