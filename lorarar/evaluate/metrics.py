"""The usual similarities beside the judges: CLIP-I, CLIP-T, DINOv2, a style descriptor.

Weights are local folders of transformers' models in safetensors; nothing is fetched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lorarar.errors import LorararError
from lorarar.evaluate.calls import read_picture
from lorarar.evaluate.folder import Picture, References
from lorarar.evaluate.questions import Subject

SIDE = 1024  # of what a model's own processor gets, at most
BESIDE: dict[str, Subject | None] = {  # what each similarity compares pictures with
    "clip_i": "subject",
    "clip_t": None,
    "dino": "subject",
    "csd": "style",
}
OPTIONS = {"clip_i": "clip", "clip_t": "clip", "dino": "dino", "csd": "csd"}


@dataclass(frozen=True)
class Embedder:
    """A model that makes directions of pictures, and some of words."""

    model: Any
    processor: Any

    @torch.inference_mode()
    def picture(self, path: Path) -> Tensor:
        """Return a picture's direction, (features,) of length 1."""
        inputs = self.processor(images=read_picture(path, SIDE), return_tensors="pt")
        if hasattr(self.model, "get_image_features"):
            features = self.model.get_image_features(**inputs)
        else:
            said = self.model(**inputs)
            features = said.image_embeds if "image_embeds" in said else said.last_hidden_state[:, 0]
        return functional.normalize(features[0], dim=0)

    @torch.inference_mode()
    def words(self, text: str) -> Tensor:
        """Return a prompt's direction, cut to what the model reads."""
        inputs = self.processor(text=[text], return_tensors="pt", truncation=True)
        return functional.normalize(self.model.get_text_features(**inputs)[0], dim=0)


def load_embedder(folder: Path) -> Embedder:
    """Load CLIP, DINOv2 or a vision model with a projection, such as CSD, from a folder.

    Raises LorararError if it holds no such model in safetensors.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor
    from transformers import CLIPVisionModelWithProjection as Projected

    local = {"local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(folder, **local)
        kind = Projected if config.model_type == "clip_vision_model" else AutoModel
        model = kind.from_pretrained(folder, use_safetensors=True, **local).eval()
        processors = AutoProcessor if hasattr(model, "get_text_features") else AutoImageProcessor
        return Embedder(model, processors.from_pretrained(folder, **local))
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise LorararError(f"{folder}: cannot be loaded ({reason})") from error


def similarities(
    pictures: Sequence[Picture], references: References, folders: dict[str, Path | None]
) -> tuple[list[dict[str, float]], dict[str, str]]:
    """Return each picture's cosines, and why those that are not there were skipped.

    clip_i and dino: with the subject's references, in the mean; clip_t: with the prompt; csd: with
    the style's references. folders: of `clip`, `dino` and `csd`, None where not given.
    """
    rows: list[dict[str, float]] = [{} for _ in pictures]
    skipped: dict[str, str] = {}
    for name, option in OPTIONS.items():
        folder = folders.get(option)
        if folder is None:
            skipped[name] = f"no weights given: --{option} FOLDER"
            continue
        try:
            embedder = load_embedder(folder)
        except LorararError as error:
            skipped[name] = str(error)
            continue
        known: dict[Path, Tensor] = {}
        for row, picture in zip(rows, pictures, strict=True):
            beside = _beside(embedder, picture, references, BESIDE[name], known)
            if beside:
                own = embedder.picture(picture.path)
                row[name] = float(torch.stack(beside).matmul(own).mean())
        if not any(name in row for row in rows):
            what = "prompt" if BESIDE[name] is None else f"{BESIDE[name]} with references"
            skipped[name] = f"no picture has a {what}"
    return rows, skipped


def add_similarities(
    rows: Sequence[dict[str, Any]],
    pictures: Sequence[Picture],
    references: References,
    folders: dict[str, Path | None],
) -> dict[str, str]:
    """Add each method's mean similarities, over its pictures, to its row; returns what was skipped
    and why.
    """
    found, skipped = similarities(pictures, references, folders)
    for row in rows:
        own = [each for each, p in zip(found, pictures, strict=True) if p.method == row["method"]]
        for name in OPTIONS:
            values = [each[name] for each in own if name in each]
            if values:
                row[name] = mean(values)
    return skipped


def _beside(
    embedder: Embedder,
    picture: Picture,
    references: References,
    side: Subject | None,
    known: dict[Path, Tensor],
) -> list[Tensor]:
    """What a picture is compared with; each reference is embedded once."""
    if side is None:
        return [embedder.words(picture.prompt)] if picture.prompt else []
    name = picture.name(side)
    paths = references.of(side, name) if name else []
    for path in paths:
        if path not in known:
            known[path] = embedder.picture(path)
    return [known[path] for path in paths]
