"""A vision-language model of transformers, on this machine: LLaVA-OneVision, Qwen2.5-VL, ..."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from lorarar.errors import LorararError
from lorarar.evaluate.calls import Call, Reply, read_picture
from lorarar.evaluate.judges import Ask, JudgeOptions

YES, NO = (
    [f"{space}{word}" for word in (low, low.title(), low.upper()) for space in ("", " ")]
    for low in ("yes", "no")
)
READABLE = 0.5  # at least so much of the first token's probability is on yes and no


def name(options: JudgeOptions) -> str:
    """Name the model; a folder also by its weights' names, sizes and dates."""
    folder = Path(options.judge)
    if not folder.is_dir():
        return options.judge
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise LorararError(f"{folder}: holds no .safetensors; name a model's folder or hub id")
    stats = [(path.name, path.stat()) for path in weights]
    facts = "; ".join(f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in stats)
    return f"{folder.resolve()} ({facts})"


@asynccontextmanager
async def opened(options: JudgeOptions) -> AsyncIterator[Ask]:
    """Load the model, onto a GPU if there is one."""
    yield _loaded(options.judge).ask


@lru_cache(maxsize=1)
def _loaded(model: str) -> "Local":
    """Load once per process, also where Ray opens a judge batch after batch."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    cuda = torch.cuda.is_available()
    try:
        processor = AutoProcessor.from_pretrained(model, trust_remote_code=False)
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            model,
            dtype=torch.bfloat16 if cuda else torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except ImportError as error:  # many models' processors need torchvision
        reason = " ".join(str(error).split())[:200]
        raise LorararError(
            f"--judge {model}: {reason}; run: pip install 'lorarar[evaluate]' torchvision"
        ) from error
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise LorararError(
            f"--judge {model}: cannot be loaded as a vision-language model ({reason})"
        ) from error
    return Local(loaded.to("cuda" if cuda else "cpu").eval(), processor)


@dataclass(frozen=True)
class Local:
    """A loaded model with its processor."""

    model: Any
    processor: Any

    @torch.inference_mode()
    async def ask(self, call: Call) -> Reply:
        """Decode greedily; yes is read from the first token's logits."""
        pictures = [read_picture(path, call.side) for path in call.pictures]
        content: list[dict[str, Any]] = [{"type": "image", "image": each} for each in pictures]
        content.append({"type": "text", "text": call.text})
        inputs = self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self.model.device, self.model.dtype)
        said = self.model.generate(
            **inputs,
            max_new_tokens=call.tokens,
            do_sample=False,
            output_scores=True,
            return_dict_in_generate=True,
        )
        count = inputs["input_ids"].shape[1]
        tokens = said.sequences[0, count:]
        text = self.processor.tokenizer.decode(tokens, skip_special_tokens=True)
        yes = self._share_of_yes(said.scores[0][0]) if call.form == "yes or no" else None
        return Reply(text, yes, input_tokens=count, output_tokens=len(tokens))

    def _share_of_yes(self, logits: torch.Tensor) -> float | None:
        """P(yes) / (P(yes) + P(no)) of logits (vocabulary,); None where both are unlikely."""
        shares = logits.float().softmax(0)
        yes, no = (float(shares[self._first_tokens(words)].sum()) for words in (YES, NO))
        return yes / (yes + no) if yes + no >= READABLE else None

    def _first_tokens(self, words: list[str]) -> list[int]:
        """The tokens that are one of these words and nothing less."""
        tokenizer = self.processor.tokenizer
        encoded = [tokenizer.encode(word, add_special_tokens=False) for word in words]
        return sorted(
            {tokens[0] for tokens in encoded if len(tokens) == 1} - {tokenizer.unk_token_id}
        )
