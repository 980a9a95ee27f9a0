"""The manifest: which LoRAs there are, or are to be trained, from which images and prompts.

A JSON file, by custom `manifest.json` in the folder of the LoRAs; paths are relative to it:

    {"format": "lorarar.manifest.1",
     "recipe": {"rank": 64, "steps": 1000},
     "loras": [{"file": "dog.safetensors", "kind": "content", "images": "images/dog",
                "prompt": "a zupra dog"},
               {"file": "ink.safetensors", "kind": "style", "images": "images/ink",
                "prompt": "a cat in ink style", "phrase": "in ink style", "held_out": true}]}

images: a folder, whose `metadata.jsonl` may caption them (`lorarar.training.images`).
phrase: what a style LoRA's prompts end in, for training with `--objective together`.
recipe: options of `lorarar train-lora`, for `lorarar train-many`. held_out: never trained on.
"drawn", beside "recipe", says that the images are drawn when they are needed, as those of the small
world are (`lorarar.mini.pictures`), by the SHA-256 of their pixels; their paths are then relative
to a folder of that name in the user's cache.
"""

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorarar.errors import LorararError
from lorarar.files import user_cache
from lorarar.hypernet import ROLES, Role

TRAINING_FORMAT = "lorarar.manifest.1"
NEEDED = {"file", "kind", "images", "prompt"}
LINE = dict.fromkeys((*NEEDED, "phrase"), str) | {"held_out": bool}  # what a LoRA's line may have


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One LoRA. file: where it is or will be; kind: "content" or "style"."""

    file: Path
    kind: Role
    images: Path
    prompt: str
    held_out: bool = False
    phrase: str = ""

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.file.stem


@dataclass(frozen=True)
class TrainingManifest:
    """What `manifest.json` says. drawn: the hash of images that are drawn when they are needed."""

    path: Path
    loras: tuple[Entry, ...]
    recipe: dict[str, Any]
    drawn: str | None = None

    @property
    def image_root(self) -> Path:
        """The folder that its images' paths are relative to."""
        return self.path.parent if self.drawn is None else image_cache() / self.drawn

    def of(self, kind: Role, held_out: bool) -> list[Entry]:
        """Return the LoRAs of a kind that are held out, or those that are not."""
        return [e for e in self.loras if e.kind == kind and e.held_out == held_out]


def image_cache() -> Path:
    """The folder for images that are drawn when they are needed, in the user's cache."""
    return user_cache("images")


def load_manifest(path: Path) -> TrainingManifest:
    """Read a manifest to train by, whose LoRAs need not exist yet.

    Raises LorararError as `read_manifest` does, if it names images that neither exist nor are
    drawn when they are needed, and if two LoRAs have the same name.
    """
    manifest = read_manifest(path)
    for entry in manifest.loras:
        if manifest.drawn is None and not entry.images.is_dir():
            raise LorararError(
                f"{manifest.path}: names images '{entry.images}', which do not exist"
            )
    (name, count), *_ = [*Counter(e.name for e in manifest.loras).most_common(1), ("", 0)]
    if count > 1:
        raise LorararError(f"{manifest.path}: {count} LoRAs are called '{name}'; rename one")
    return manifest


def read_manifest(path: Path) -> TrainingManifest:
    """Read what a manifest says of its LoRAs; a folder stands for its `manifest.json`.

    Raises LorararError if it is missing or damaged.
    """
    if path.is_dir():
        path = path / "manifest.json"
    try:
        content = json.loads(path.read_bytes())  # UTF-8 in any locale, with or without BOM
        if content["format"] != TRAINING_FORMAT:
            raise LorararError(
                f"{path}: is of format '{content['format']}', not '{TRAINING_FORMAT}'"
            )
        recipe = _typed("recipe", content.get("recipe", {}), dict)
        drawn = _typed("drawn", content.get("drawn"), str | None)
        lines = _typed("loras", content["loras"], list)
        manifest = TrainingManifest(path, (), recipe, drawn)
        root = manifest.image_root
        entries = tuple(_entry(path, root, f"loras[{n}]", line) for n, line in enumerate(lines))
    except OSError as error:
        raise LorararError(f"{path}: cannot be read ({error.strerror}); give a manifest") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LorararError(
            f"{path}: no manifest ({error!r}); see docs/training.md for its form"
        ) from error
    return replace(manifest, loras=entries)


def _entry(manifest: Path, image_root: Path, what: str, line: Any) -> Entry:
    """Raises ValueError or TypeError if a line is not as this module says."""
    said = _typed(what, line, dict)
    unknown, missing = said.keys() - LINE.keys(), NEEDED - said.keys()
    if unknown:
        raise ValueError(f"{what} has unknown {', '.join(sorted(unknown))}")
    if missing:
        raise ValueError(f"{what} has no {', '.join(sorted(missing))}")
    for key, value in said.items():
        _typed(f"{what}'s {key}", value, LINE[key])
    if said["kind"] not in ROLES:
        raise ValueError(f"{what} is of kind '{said['kind']}'; use {' or '.join(ROLES)}")
    if not said["file"] or not said["images"]:
        raise ValueError(f"{what} names no file or no images")
    places = {"file": manifest.parent / said["file"], "images": image_root / said["images"]}
    return Entry(**said | places)


def _typed(what: str, value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{what} is {value!r:.80}, of type {type(value).__name__}")
    return value


def check_trained(manifest: TrainingManifest, held_out: bool) -> None:
    """Raises LorararError if a LoRA that is held out, or one that is not, does not exist yet."""
    for entry in manifest.loras:
        if entry.held_out == held_out and not entry.file.exists():
            raise LorararError(
                f"{manifest.path}: names '{entry.file}', which does not exist; "
                f"run: lorarar train-many {manifest.path}"
            )
