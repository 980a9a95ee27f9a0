"""CLIP's tokenizer (Radford et al. 2103.00020), read from a pipeline's folder by `tokenizers`."""

import json
import re
import unicodedata
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from lorarar.errors import LorararError

WORDS = Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
IDEOGRAPH = re.compile(
    "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f]"
)
LONGEST = 4096  # transformers writes 1e30 for a length that nobody set


# What a tokenizer_config.json may say; other values give other ids.
KNOWN: dict[str, tuple[object, ...]] = {
    "padding_side": ("right",),
    "truncation_side": ("right",),
    "split_special_tokens": (False,),
    "add_prefix_space": (False,),
    "do_lower_case": (True,),
}


@dataclass(frozen=True, kw_only=True)
class ClipTokenizer:
    """begin, end and pad are token ids; added: those of words that training added, each with its
    further vectors as diffusers reads them ("<s0>", then "<s0>_1" and so on); length: of what every
    text becomes."""

    words: Tokenizer
    added: dict[str, list[int]]
    begin: int
    end: int
    pad: int
    length: int

    def __call__(self, text: str) -> np.ndarray:
        """The ids of a text, (1, length) int64: begin, at most length - 2 tokens, end, padding.

        As transformers' CLIPTokenizer without ftfy: special tokens in the text count as such, so
        with pad "!" every "!" has the id of padding.
        """
        return self.chunks(text)[:1]

    def chunks(self, text: str) -> np.ndarray:
        """All ids of a text, (n, length) int64: each row as a text of its own, at least one."""
        room = self.length - 2
        ids = self.ids(text)
        parts = [ids[start : start + room] for start in range(0, max(len(ids), 1), room)]
        rows = [[self.begin, *part, self.end] for part in parts]
        return np.array([row + [self.pad] * (self.length - len(row)) for row in rows], np.int64)

    def cut(self, text: str) -> str:
        """The words at the end of a text that a call leaves out."""
        lost = self.ids(text)[self.length - 2 :]
        of_added = {numbers[0]: f"{token}</w>" for token, numbers in self.added.items()}
        pieces = [of_added.get(each) or self.words.id_to_token(each) or "" for each in lost]
        return " ".join(map(_letters, "".join(pieces).split("</w>"))).strip()

    def ids(self, text: str) -> list[int]:
        """All ids of a text, without begin and end."""
        if not self.added:
            return self._plain(text)
        longest_first = sorted(self.added, key=len, reverse=True)
        ids: list[int] = []
        for piece in re.split(f"({'|'.join(map(re.escape, longest_first))})", text):
            ids += self.added.get(piece) or self._plain(piece)
        return ids

    def _plain(self, text: str) -> list[int]:
        return list(self.words.encode(_clean(text), add_special_tokens=False).ids)


def load_tokenizer(folder: Path) -> ClipTokenizer:
    """Read vocab.json, merges.txt and tokenizer_config.json of a pipeline's tokenizer.

    Special tokens are those of the configuration; where it has no "added_tokens_decoder", those of
    special_tokens_map.json, and added tokens those of added_tokens.json.

    Raises LorararError if one of these is missing, damaged or not supported.

    >>> tokenizer = load_tokenizer(exported / "tokenizer")
    >>> tokenizer("a cup").shape
    (1, 16)
    """
    try:
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
        added = _added_tokens(folder, config)
        odd = [
            f"{name} {config[name]}"
            for name, values in KNOWN.items()
            if config.get(name) not in (None, *values)
        ]
        if odd:
            raise ValueError(f"{', '.join(odd)} is not supported")
        begin, end, unknown, pad = special = [
            _text(config[f"{name}_token"]) for name in ("bos", "eos", "unk", "pad")
        ]
        files = str(folder / "vocab.json"), str(folder / "merges.txt")
        words = Tokenizer(
            models.BPE.from_file(*files, end_of_word_suffix="</w>", unk_token=unknown)
        )
        ids = {token: words.token_to_id(token) for token in (begin, end, pad)}
        if None in ids.values():
            raise ValueError(f"its vocab.json lacks one of {', '.join(ids)}")
        length = int(config["model_max_length"])
        if not 2 < length <= LONGEST:
            raise ValueError(f"model_max_length {length}")
        words.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(WORDS, behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        words.add_special_tokens(special)
        return ClipTokenizer(
            words=words,
            added={token: _vectors(token, added) for token in added.keys() - special},
            begin=ids[begin],
            end=ids[end],
            pad=ids[pad],
            length=length,
        )
    except Exception as error:  # those of tokenizers derive from Exception alone
        raise LorararError(f"{folder}: no usable tokenizer ({error}); export it again") from error


def _added_tokens(folder: Path, config: dict[str, Any]) -> dict[str, int]:
    """Added tokens with their ids; special tokens of old files are put into the configuration."""
    if "added_tokens_decoder" in config:
        decoder = config["added_tokens_decoder"]
        single = [token["content"] for token in decoder.values() if token.get("single_word")]
        if single:
            raise ValueError(f"single_word of {', '.join(single)} is not supported")
        return {token["content"]: int(number) for number, token in decoder.items()}
    # from transformers before 4.34
    config |= json.loads((folder / "special_tokens_map.json").read_bytes())
    path = folder / "added_tokens.json"
    return dict(json.loads(path.read_bytes())) if path.exists() else {}


def _vectors(token: str, added: dict[str, int]) -> list[int]:
    following = takewhile(added.__contains__, (f"{token}_{number}" for number in count(1)))
    return [added[token], *(added[name] for name in following)]


def _letters(word: str) -> str:
    """A word of byte-level tokens as it was written, in lower case."""
    return decoders.ByteLevel().decode([word])


def _clean(text: str) -> str:
    """Lower case without control characters, ideographs apart (as Devlin et al. 1810.04805)."""
    kept = (char for char in text if char in "\t\n\r" or not _is_control(char))
    spaced = IDEOGRAPH.sub(r" \g<0> ", "".join(kept))
    return unicodedata.normalize("NFC", spaced).lower()


def _is_control(char: str) -> bool:
    return char == "\ufffd" or unicodedata.category(char).startswith("C")


def _text(token: str | dict) -> str:
    return token if isinstance(token, str) else token["content"]
