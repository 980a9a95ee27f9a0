"""What a training is of, kept beside its state, so that no other training goes on from there."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import StableDiffusionXLPipeline

from lorarar.artefacts.training import TrainingManifest
from lorarar.errors import LorararError
from lorarar.files import sha256, write_atomically
from lorarar.training.images import Example, load_examples
from lorarar.training.recipes import HypernetRecipe, LoraRecipe
from lorarar.unfinished import held, make_folder

FORMAT = "lorarar.training.1"
BEGUN = "training.json"
# Options that change no weight; of the prior's folder what is in it counts, not where it lies.
FREE = {"checkpointing", "sample_every", "save_every", "prior_folder"}
STATES = "*.pt"
WRITTEN = re.compile(r".+\.pt|loss\.(jsonl|png)|step-\d+\.png")  # by trainings, in their folder
DIGITS = 16  # of the hashes that are kept

Identity = Mapping[str, object]  # all of it JSON


@contextmanager
def working_folder(output: Path, accelerator: Accelerator) -> Iterator[Path]:
    """Yield `OUTPUT.training/`, which no other training has meanwhile.

    Raises LorararError if one has it.
    """
    folder = output.with_name(f"{output.name}.training")
    with held(folder) if accelerator.is_main_process else nullcontext():
        yield folder


def begin(folder: Path, identity: Identity, *, writes: bool = True) -> None:
    """Keep in `folder/training.json` what is trained; with a state there, compare it.

    identity: by what each fact is called in errors. writes: false for all but one of several
    processes.

    Raises LorararError that names the first difference, or a file that was there before.
    """
    make_folder(folder)
    path = folder / BEGUN
    known = _read(path)
    if known is None:
        _refuse_others(folder)
    elif any(folder.glob(STATES)):
        _compare(folder, known, json.loads(json.dumps(identity)))
        return
    if writes:
        text = json.dumps({"format": FORMAT, "training": identity}, indent=1)
        write_atomically(path, lambda file: file.write(text.encode()), force=True)


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']}")
        return dict(content["training"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise LorararError(
            f"{path}: does not say what is trained here ({error!r}); remove {path.parent}, or use "
            "another --output"
        ) from error


def _refuse_others(folder: Path) -> None:
    for file in sorted(folder.iterdir()):
        if WRITTEN.fullmatch(file.name):
            raise LorararError(
                f"{file}: is another's, or of an older version, which did not keep what it was "
                f"of; remove {folder}, or use another --output"
            )


def _compare(folder: Path, known: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for fact in dict.fromkeys((*now, *known)):
        if known.get(fact) == now.get(fact):
            continue
        if fact not in known:
            change = f"without {fact}"
        elif fact not in now:
            change = f"with {fact}, which is gone"
        else:
            change = f"with {fact} {json.dumps(known[fact])}, not {json.dumps(now[fact])}"
        raise LorararError(
            f"{folder}: was begun {change}; go on as it was begun, or remove the folder or use "
            "another --output"
        )


def recipe_facts(recipe: LoraRecipe | HypernetRecipe) -> dict[str, Any]:
    """Return the options that change what is trained, by name."""
    facts = {name: value for name, value in asdict(recipe).items() if name not in FREE}
    return {name: " ".join(v) if isinstance(v, tuple) else v for name, v in facts.items()}


def image_facts(folder: Path, examples: Sequence[Example], of: str = "") -> dict[str, str]:
    """Return each image's hash and caption, by its name in `folder`; of: what goes before it.

    Raises LorararError if one cannot be read.
    """
    facts = {}
    for example in examples:
        name = of + example.image.relative_to(folder).as_posix()
        facts[f"image {name}"] = file_hash(example.image)
        facts[f"caption of {name}"] = example.prompt
    return facts


def lora_facts(manifest: TrainingManifest) -> dict[str, str]:
    """Return what a manifest says of LoRAs that are not held out, and hashes of them and images.

    Raises LorararError if a file cannot be read.
    """
    used = [entry for entry in manifest.loras if not entry.held_out]
    facts = {"LoRAs": ", ".join(entry.name for entry in used)}
    for entry in used:
        facts[f"LoRA {entry.name}"] = file_hash(entry.file)
        facts[f"kind of {entry.name}"] = entry.kind
        facts[f"phrase of {entry.name}"] = entry.phrase
        listed = load_examples(entry.images, entry.prompt)
        facts |= image_facts(entry.images, listed, of=f"{entry.name}/")
    return facts


def file_hash(path: Path) -> str:
    """Return the first digits of the SHA-256 of a file, or of a folder's files.

    Raises LorararError if one cannot be read.
    """
    files = sorted(filter(Path.is_file, path.rglob("*"))) if path.is_dir() else [path]
    try:
        hashes = [sha256(file) for file in files]
    except OSError as error:
        raise LorararError(f"{path}: cannot be read ({error.strerror})") from error
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:DIGITS]


def model_hash(pipeline: StableDiffusionXLPipeline) -> str:
    """Return a hash of a loaded pipeline's weights, settings and vocabularies.

    It does not depend on where the pipeline lies, or in which files.
    """
    digest = hashlib.sha256(str(pipeline.config.force_zeros_for_empty_prompt).encode())
    for name, part in sorted(pipeline.components.items()):
        digest.update(f"{name} {json.dumps(_settings(part), sort_keys=True, default=str)}".encode())
        if hasattr(part, "get_vocab"):
            digest.update(json.dumps(part.get_vocab(), sort_keys=True).encode())
        if isinstance(part, torch.nn.Module):
            for key, weight in sorted(part.state_dict().items()):
                digest.update(f"{key} {weight.dtype} {tuple(weight.shape)}".encode())
                digest.update(weight.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:DIGITS]


def _settings(part: Any) -> dict[str, Any]:
    """A part's configuration, but for where it was found and who wrote it."""
    config = getattr(part, "config", None) or {}
    known = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    said = {key: value for key, value in known.items() if not key.startswith("_")}
    said.pop("transformers_version", None)
    return said
