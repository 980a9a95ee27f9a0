"""The runtime's tokenizer against transformers' own."""

import json
import shutil
from functools import cache

import pytest
from diffusers.loaders import TextualInversionLoaderMixin
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer, CLIPTokenizerFast

from lorarar.diffusion.clip_tokenizers import open_tokenizer
from lorarar.embedded import EMBEDDED
from lorarar.errors import LorararError
from lorarar.runtime.tokenizer import load_tokenizer

FOLDERS = {name: EMBEDDED / "base" / name for name in ("tokenizer", "tokenizer_2")}
TEXTS = [
    "",
    "   ",
    "a votol cup on grass in neon style",
    "A  Red\tCUP,\nit's 42 o'clock!",
    "wow! a cup!! hi !there !",
    "don't we'll they're I've I'm he'd cat's IT'S",
    "Ärger über Öl, façade, naïve, ß, e\u0301, İstanbul, ΟΔΟΣ",
    "a (cup:1.3) -- 3.14 #1 ... ?! ½ ² ①",
    "word " * 200,
    "x" * 500,
    "a cat 🐈 a family 👨\u200d👩\u200d👧 and 猫cat猫",
    "zero\u200bwidth, nul\x00, next\x85line, lost\ufffd",
    "<|endoftext|> inside <|startoftext|>A Cup<|ENDOFTEXT|>",
    "a <s0> cup, <s1><s0><s1>, <S0> s0 votol-cup Votol-Cups a<s0>!",
]
FOLDS_TO_A_LETTER = "\u0345"  # a mark that transformers' regex takes for a letter
loaded = cache(load_tokenizer)
twin = cache(CLIPTokenizer.from_pretrained)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """The embedded tokenizers, and one that pads with "!" as SDXL's second does."""
    bang = shutil.copytree(FOLDERS["tokenizer"], tmp_path_factory.mktemp("pads") / "tokenizer")
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        change(bang / name, pad_token="!")
    inverted = tmp_path_factory.mktemp("added") / "tokenizer"
    tokenizer = CLIPTokenizer.from_pretrained(str(FOLDERS["tokenizer"]))
    tokenizer.add_tokens(["<s0>", "<s1>", "<s0><s1>", "Votol-Cup"])
    tokenizer.save_pretrained(str(inverted))
    return FOLDERS | {"pads with !": bang, "has added tokens": inverted}


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def assert_same(folder, text):
    length = twin(folder).model_max_length
    wanted = twin(folder)(text, padding="max_length", truncation=True, max_length=length)
    assert loaded(folder)(text)[0].tolist() == wanted.input_ids


@pytest.mark.parametrize("name", [*FOLDERS, "pads with !", "has added tokens"])
@pytest.mark.parametrize("text", TEXTS)
def test_gives_the_ids_of_transformers(name, text, folders):
    assert_same(folders[name], text)


@pytest.mark.parametrize("name", [*FOLDERS, "pads with !", "has added tokens"])
@settings(derandomize=True, deadline=None, max_examples=300)
@given(text=st.text(st.characters(exclude_characters=FOLDS_TO_A_LETTER), max_size=12))
def test_gives_the_ids_of_transformers_for_any_text(name, folders, text):
    assert_same(folders[name], text)


def test_gives_one_row_of_int64(folders):
    ids = loaded(folders["tokenizer"])("a cup")
    assert (ids.shape, ids.dtype) == ((1, 16), "int64")


def test_an_exclamation_mark_in_the_prompt_is_padding_where_padding_is_one(folders):
    assert loaded(folders["pads with !"])("!")[0, 1] == 0
    assert loaded(folders["tokenizer"])("!")[0, 1] == 256


def test_added_tokens_of_old_files_are_known(tmp_path, folders):
    folder = shutil.copytree(folders["has added tokens"], tmp_path / "tokenizer")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["added_tokens_decoder"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert_same(folder, "a <s0> cup")


def test_a_token_of_several_vectors_stands_for_all(folders, tmp_path):
    folder = shutil.copytree(folders["has added tokens"], tmp_path / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(str(folder))
    tokenizer.add_tokens(["<s0>_1", "<s0>_2", "<s1>_2"])
    tokenizer.save_pretrained(str(folder))
    text = "a <s0> cup, <s1>"
    prompt = TextualInversionLoaderMixin().maybe_convert_prompt(text, tokenizer)
    wanted = tokenizer(prompt, padding="max_length", max_length=16).input_ids
    assert loaded(folder)(text)[0].tolist() == wanted
    assert loaded(folder).cut(f"{'a ' * 12} a cup <s1> cup") == "<s1> cup"


def test_a_long_text_is_cut_or_comes_in_chunks(folders):
    tokenizer, words = loaded(folders["tokenizer"]), "a red cup on grass in neon style and a cup"
    assert tokenizer.cut(words) == ""
    assert tokenizer.cut(f"{words} a cup rÉd üxü") == "réd üxü"
    for text in ("", words, f"{words} {words}", "word " * 200):
        chunks = tokenizer.chunks(text)
        assert chunks.shape[1] == 16 and (chunks[0] == tokenizer(text)[0]).all()
        inner = [id for row in chunks for id in row.tolist() if id < tokenizer.begin]
        assert inner == tokenizer.words.encode(text, add_special_tokens=False).ids


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(FOLDERS["tokenizer"], tmp_path / "tokenizer")


def test_the_configuration_alone_names_special_tokens(folder):
    (folder / "special_tokens_map.json").unlink()
    assert_same(folder, "a red cup")


def test_without_added_tokens_the_map_names_special_tokens(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["added_tokens_decoder"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    change(folder / "special_tokens_map.json", pad_token="!")
    assert_same(folder, "a red cup!")
    assert loaded(folder).pad == 0


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
def test_a_missing_or_damaged_file_is_one_line(name, folder):
    (folder / name).write_text("{")
    with pytest.raises(LorararError, match=r"tokenizer: no usable tokenizer .*export it again$"):
        load_tokenizer(folder)
    (folder / name).unlink()
    with pytest.raises(LorararError, match=r"tokenizer: no usable tokenizer .*export it again$"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"pad_token": "absent"}, "vocab.json lacks one of"),
        ({"eos_token": None}, "eos_token|NoneType"),
        ({"model_max_length": 10**30}, "model_max_length"),
        ({"model_max_length": 1}, "model_max_length 1"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(fields, said, folder):
    change(folder / "tokenizer_config.json", **fields)
    with pytest.raises(LorararError, match=said):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"padding_side": "left"},
        {"truncation_side": "left"},
        {"split_special_tokens": True},
        {"add_prefix_space": True},
        {"do_lower_case": False},
    ],
)
def test_what_gives_other_ids_is_refused_by_name(fields, folder):
    change(folder / "tokenizer_config.json", **fields)
    (named,) = fields
    with pytest.raises(LorararError, match=f"{named} .* is not supported"):
        load_tokenizer(folder)


def test_added_tokens_that_are_words_of_their_own_only_are_refused(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["added_tokens_decoder"]["727"] = {"content": "<s0>", "single_word": True}
    change(folder / "tokenizer_config.json", **config)
    with pytest.raises(LorararError, match="single_word of <s0> is not supported"):
        load_tokenizer(folder)


ENCODER = {"max_position_embeddings": 16, "vocab_size": 727}


def test_a_model_may_have_tokenizer_json_alone(folder, tmp_path):
    alone = tmp_path / "alone"
    CLIPTokenizerFast.from_pretrained(str(folder)).save_pretrained(str(alone))
    for name in ("vocab.json", "merges.txt", "special_tokens_map.json"):
        (alone / name).unlink()
    opened = open_tokenizer(alone, ENCODER)
    for text in TEXTS:
        assert opened(text).input_ids == twin(folder)(text).input_ids


def test_a_length_that_nobody_set_is_the_text_encoders(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["model_max_length"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert open_tokenizer(folder, ENCODER).model_max_length == 16


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ({"max_position_embeddings": 77}, "model_max_length 16 .* has 77 positions"),
        ({"vocab_size": 700}, "token '.*' is unknown to the text encoder, which has 700"),
    ],
)
def test_a_tokenizer_of_another_text_encoder_is_refused(encoder, said, folder):
    with pytest.raises(LorararError, match=said):
        open_tokenizer(folder, ENCODER | encoder)


def test_a_tokenizer_without_files_is_one_line(folder):
    (folder / "merges.txt").unlink()
    with pytest.raises(LorararError, match=r"no usable tokenizer \(merges.txt is missing\); get"):
        open_tokenizer(folder, ENCODER)
