"""What an exported pipeline holds of its model beside programs: scheduler, tokenizers, index.

They are written so that every reader of exported folders, in Python, C++ or Java, knows all of it,
and read back by the runtime's own readers before anything is traced.
"""

import inspect
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import diffusers
from diffusers.loaders import TextualInversionLoaderMixin
from transformers import CLIPTokenizer

from lorarar.artefacts.scheduler import FILE as SCHEDULER
from lorarar.artefacts.scheduler import resolve
from lorarar.diffusion.checkpoint import read_json, scheduler_config
from lorarar.diffusion.clip_tokenizers import open_tokenizers
from lorarar.errors import LorararError
from lorarar.runtime.tokenizer import load_tokenizer

INDEX = "model_index.json"
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
    config = scheduler_config(model)
    source = model / SCHEDULER
    resolved = resolve(config, source, remedy=REMEDY, mend="get the model again")
    theirs = inspect.signature(getattr(diffusers, config["_class_name"]).__init__).parameters
    said = {name: resolved[name] for name in resolved if name in config or name in theirs}
    (folder / "scheduler").mkdir()
    (folder / SCHEDULER).write_text(json.dumps(said, indent=2) + "\n")
    (folder / INDEX).write_text(json.dumps(read_json(model / INDEX), indent=2) + "\n")
    for name, tokenizer in open_tokenizers(model).items():
        tokenizer.save_pretrained(str(folder / name))
        _check_ids(model / name, tokenizer, folder / name)


def _check_ids(source: Path, tokenizer: CLIPTokenizer, written: Path) -> None:
    """Compare what the runtime reads with transformers and diffusers, for every added token."""
    try:
        found = load_tokenizer(written)
    except LorararError as error:
        raise LorararError(f"{source}: {error.__cause__}; {REMEDY}") from error
    length = tokenizer.model_max_length
    for text in (SAMPLE, *(f"a {token} cup" for token in tokenizer.get_added_vocab())):
        prompt = TextualInversionLoaderMixin().maybe_convert_prompt(text, tokenizer)
        wanted = tokenizer(prompt, padding="max_length", truncation=True, max_length=length)
        if found(text)[0].tolist() != wanted.input_ids:
            raise LorararError(f"{source}: is tokenized otherwise than CLIP; {REMEDY}")
