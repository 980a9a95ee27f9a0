"""A model's tokenizers, however its folder keeps them, as transformers reads them."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import CLIPTokenizer

from lorarar.errors import LorararError

TOKENIZERS = {"tokenizer": "text_encoder", "tokenizer_2": "text_encoder_2"}  # and what reads them
UNSET = 10**6  # transformers writes 1e30 for a length that nobody set
FILES = VOCABULARY, MERGES = "vocab.json", "merges.txt"
WHOLE = "tokenizer.json"


def open_tokenizers(folder: Path) -> dict[str, CLIPTokenizer]:
    """Open both tokenizers of a diffusers folder, by name; see `open_tokenizer`."""
    found = {}
    for name, encoder in TOKENIZERS.items():
        config = folder / encoder / "config.json"
        try:
            found[name] = open_tokenizer(folder / name, json.loads(config.read_bytes()))
        except (OSError, ValueError) as error:
            raise LorararError(f"{config}: unusable ({error}); get the model again") from error
    return found


def open_tokenizer(folder: Path, encoder: Mapping[str, Any]) -> CLIPTokenizer:
    """Open a tokenizer of vocab.json and merges.txt, or of tokenizer.json alone.

    encoder: the configuration of the text encoder that reads its tokens, and says how many where
    the tokenizer does not.

    Raises LorararError if a file is missing or damaged, or if the text encoder does not know a
    token or takes another number of them.
    """
    try:
        with TemporaryDirectory() as temporary:
            copy = Path(shutil.copytree(folder, Path(temporary, folder.name)))
            missing = [name for name in FILES if not (copy / name).exists()]
            if missing and (copy / WHOLE).exists():
                _split(copy)
            elif missing:
                raise FileNotFoundError(f"{missing[0]} is missing")
            tokenizer = CLIPTokenizer.from_pretrained(str(copy), local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise LorararError(
            f"{folder}: no usable tokenizer ({reason}); get the model again"
        ) from error
    positions, known = encoder["max_position_embeddings"], encoder["vocab_size"]
    if tokenizer.model_max_length > UNSET:
        tokenizer.model_max_length = positions
    if tokenizer.model_max_length != positions:
        raise LorararError(
            f"{folder}: model_max_length {tokenizer.model_max_length} is not supported, as the "
            f"text encoder has {positions} positions; give the model a tokenizer for these"
        )
    unknown = [token for token, id in tokenizer.get_vocab().items() if id >= known]
    if unknown:
        raise LorararError(
            f"{folder}: token '{unknown[0]}' is unknown to the text encoder, which has {known}; "
            "put the embedding in, or remove the token"
        )
    return tokenizer


def _split(folder: Path) -> None:
    """Write vocab.json and merges.txt of a tokenizer.json, as older transformers want them."""
    model = json.loads((folder / WHOLE).read_bytes())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (folder / VOCABULARY).write_text(json.dumps(model["vocab"]), "utf-8")
    (folder / MERGES).write_text("\n".join(["#version: 0.2", *merges, ""]), "utf-8")
