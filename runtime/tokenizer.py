"""CLIP's tokenizer (Radford et al. 2103.00020), read from a pipeline's folder by `tokenizers`."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from lorarar.errors import LorararError

WORDS = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")


@dataclass(frozen=True)
class ClipTokenizer:
    """begin, end and pad are token ids; length: of every answer."""

    words: Tokenizer
    begin: int
    end: int
    pad: int
    length: int

    def __call__(self, text: str) -> np.ndarray:
        """The ids of a text, (1, length) int64: begin, at most length - 2 tokens, end, padding."""
        ids = self.words.encode(text, add_special_tokens=False).ids[: self.length - 2]
        ids = [self.begin, *ids, self.end]
        return np.array([ids + [self.pad] * (self.length - len(ids))], np.int64)


def load_tokenizer(folder: Path) -> ClipTokenizer:
    """Read vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json.

    Raises LorararError if one is missing or damaged.
    """
    try:
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
        special = json.loads((folder / "special_tokens_map.json").read_bytes())
        begin, end, unknown, pad = (
            _text(special[f"{name}_token"]) for name in ("bos", "eos", "unk", "pad")
        )
        files = str(folder / "vocab.json"), str(folder / "merges.txt")
        words = Tokenizer(
            models.BPE.from_file(*files, end_of_word_suffix="</w>", unk_token=unknown)
        )
        words.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        words.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(WORDS, behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        words.add_special_tokens([begin, end])
        ids = {token: words.token_to_id(token) for token in (begin, end, pad)}
        if None in ids.values():
            raise ValueError(f"its vocab.json lacks one of {', '.join(ids)}")
        length = int(config["model_max_length"])
        return ClipTokenizer(words, ids[begin], ids[end], ids[pad], length)
    except Exception as error:  # those of tokenizers derive from Exception alone
        raise LorararError(f"{folder}: no usable tokenizer ({error}); export it again") from error


def _text(token: str | dict) -> str:
    return token if isinstance(token, str) else token["content"]
