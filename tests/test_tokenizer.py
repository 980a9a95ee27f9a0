"""The runtime's tokenizer against transformers' own."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from lorarar.errors import LorararError
from lorarar.pipeline import EMBEDDED
from lorarar.runtime.tokenizer import load_tokenizer

FOLDERS = [EMBEDDED / "base" / name for name in ("tokenizer", "tokenizer_2")]
TEXTS = [
    "",
    "a votol cup on grass in neon style",
    "A  Red\tCUP,\nit's 42 o'clock!",
    "don't we'll they're I've I'm he'd cat's",
    "Ärger über Öl, façade, naïve, ß",
    "a (cup:1.3) -- 3.14 #1 ... ?!",
    "word " * 200,
    "a cat 🐈 and 猫",
    "<|endoftext|> inside <|startoftext|>",
]


def twin(folder):
    tokenizer = CLIPTokenizer.from_pretrained(folder)

    def ids(text):
        length = tokenizer.model_max_length
        return tokenizer(text, padding="max_length", truncation=True, max_length=length).input_ids

    return ids


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("text", TEXTS)
def test_gives_the_ids_of_transformers(folder, text):
    assert load_tokenizer(folder)(text)[0].tolist() == twin(folder)(text)


@given(st.text(st.characters(codec="latin-1", categories=["L", "N", "P", "S", "Zs"]), max_size=40))
def test_gives_the_ids_of_transformers_for_western_text(text):
    assert load_tokenizer(FOLDERS[0])(text)[0].tolist() == twin(FOLDERS[0])(text)


def test_pads_with_what_the_folder_says(tmp_path):
    folder = shutil.copytree(FOLDERS[0], tmp_path / "tokenizer")
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        about = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(about | {"pad_token": "!"}))
    assert load_tokenizer(folder)("a cup")[0].tolist() == twin(folder)("a cup")
    assert load_tokenizer(folder)("a cup")[0, -1] == load_tokenizer(folder).words.token_to_id("!")


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
def test_a_missing_or_damaged_file_is_one_line(tmp_path, name):
    folder = shutil.copytree(FOLDERS[0], tmp_path / "tokenizer")
    (folder / name).write_text("{")
    with pytest.raises(LorararError, match="no usable tokenizer"):
        load_tokenizer(folder)
    (folder / name).unlink()
    with pytest.raises(LorararError, match="no usable tokenizer"):
        load_tokenizer(folder)
