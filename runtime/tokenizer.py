"""CLIP's tokenizer (Radford et al. 2103.00020), read from a pipeline's folder by `tokenizers`."""

import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from lorarar.errors import LorararError

WORDS = Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
IDEOGRAPH = re.compile(
    "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f]"
)
LONGEST = 4096  # transformers writes 1e30 for a length that nobody set


@dataclass(frozen=True, kw_only=True)
class ClipTokenizer:
    """begin, end and pad are token ids; length: of what every text becomes."""

    words: Tokenizer
    begin: int
    end: int
    pad: int
    length: int

    def __call__(self, text: str) -> np.ndarray:
        """The ids of a text, (1, length) int64: begin, at most length - 2 tokens, end, padding.

        As transformers' CLIPTokenizer without ftfy: special tokens in the text count as such, so
        with pad "!" every "!" has the id of padding.
        """
        ids = self.words.encode(_clean(text), add_special_tokens=False).ids[: self.length - 2]
        ids = [self.begin, *ids, self.end]
        return np.array([ids + [self.pad] * (self.length - len(ids))], np.int64)


def load_tokenizer(folder: Path) -> ClipTokenizer:
    """Read vocab.json, merges.txt and tokenizer_config.json of a pipeline's tokenizer.

    Special tokens are those of the configuration, or of special_tokens_map.json where the
    configuration has no "added_tokens_decoder".

    Raises LorararError if one of these is missing or damaged.

    >>> tokenizer = load_tokenizer(exported / "tokenizer")
    >>> tokenizer("a cup").shape
    (1, 16)
    """
    try:
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
        if "added_tokens_decoder" not in config:  # from transformers before 4.34
            config |= json.loads((folder / "special_tokens_map.json").read_bytes())
        begin, end, unknown, pad = (
            _text(config[f"{name}_token"]) for name in ("bos", "eos", "unk", "pad")
        )
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
        words.add_special_tokens([begin, end, unknown, pad])
        return ClipTokenizer(
            words=words, begin=ids[begin], end=ids[end], pad=ids[pad], length=length
        )
    except Exception as error:  # those of tokenizers derive from Exception alone
        raise LorararError(f"{folder}: no usable tokenizer ({error}); export it again") from error


def _clean(text: str) -> str:
    """Lower case without control characters, ideographs apart (as Devlin et al. 1810.04805)."""
    kept = (char for char in text if char in "\t\n\r" or not _is_control(char))
    spaced = IDEOGRAPH.sub(r" \g<0> ", "".join(kept))
    return unicodedata.normalize("NFC", spaced).lower()


def _is_control(char: str) -> bool:
    return char == "\ufffd" or unicodedata.category(char).startswith("C")


def _text(token: str | dict) -> str:
    return token if isinstance(token, str) else token["content"]
