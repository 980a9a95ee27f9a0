"""What an exported pipeline holds of its model beside programs: scheduler, tokenizers, index.

They are written so that every reader of exported folders, in Python, C++ or Java, knows all of it,
and read back by the runtime's own readers before anything is traced.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lorarar.artefacts.scheduler import resolve
from lorarar.diffusion.clip_tokenizers import open_tokenizers
from lorarar.errors import LorararError
from lorarar.runtime.tokenizer import load_tokenizer

INDEX = "model_index.json"
SCHEDULER = "scheduler/scheduler_config.json"
REMEDY = "draw with --model, without exporting"
SAMPLE = "A red Cup, it's 42 o'clock!"


def check_rest(model: Path) -> None:
    """Raise LorararError if a diffusers folder's scheduler or tokenizers cannot be exported."""
    with TemporaryDirectory() as temporary:
        write_rest(model, Path(temporary))


def write_rest(model: Path, folder: Path) -> None:
    """Write a diffusers folder's rest into an exported one, with every value said.

    Raises LorararError if a file is missing or damaged, or if it says what the runtime does not do.
    """
    index = _read(model / INDEX)
    config = _read(model / SCHEDULER)
    if "scheduler" in index:  # the class that diffusers loads, whatever the configuration says
        config["_class_name"] = index["scheduler"][-1]
    resolved = resolve(config, model / SCHEDULER, remedy=REMEDY)
    (folder / "scheduler").mkdir()
    (folder / SCHEDULER).write_text(json.dumps(resolved, indent=2) + "\n")
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    for name, tokenizer in open_tokenizers(model).items():
        tokenizer.save_pretrained(str(folder / name))
        text = " ".join([SAMPLE, *tokenizer.get_added_vocab()])
        length = tokenizer.model_max_length
        wanted = tokenizer(text, padding="max_length", truncation=True, max_length=length)
        try:
            found = load_tokenizer(folder / name)(text)[0].tolist()
        except LorararError as error:
            raise LorararError(f"{model / name}: {error.__cause__}; {REMEDY}") from error
        if found != wanted.input_ids:
            raise LorararError(f"{model / name}: is tokenized otherwise than CLIP; {REMEDY}")


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise LorararError(f"{file}: unusable ({error}); get the model again") from error
