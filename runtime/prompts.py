"""Prompts as an exported pipeline's UNet reads them, of any length where it takes any."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lorarar.artefacts.pipeline import PipelineManifest
from lorarar.runtime.backends import Tensors
from lorarar.runtime.conditioning import TextEmbedding, zeros_like
from lorarar.runtime.limits import takes_any_tokens
from lorarar.runtime.tokenizer import ClipTokenizer

ENCODERS = ("text_encoder", "text_encoder_2")
RunPart = Callable[[str, Tensors], Tensors]  # name, inputs -> outputs


@dataclass(frozen=True)
class PromptReader:
    """The text encoders of a pipeline, each behind its tokenizer. run: runs a part."""

    manifest: PipelineManifest
    tokenizers: Sequence[ClipTokenizer]
    run: RunPart

    def read(self, prompt: str, negative: str | None, guidance: float) -> list[TextEmbedding]:
        """Return what is asked for, after what guidance leads away from, if there is any.

        See `lorarar.runtime.pipeline.Pipeline.steps`. All have as many tokens.
        """
        if guidance <= 1:
            return self._embed(prompt)
        if negative is None and self.manifest.zeros_for_empty:
            (asked,) = self._embed(prompt)
            return [zeros_like(asked), asked]
        return self._embed(negative or "", prompt)

    def cut(self, prompt: str) -> str:
        """Return the words at a prompt's end that the UNet has no room for."""
        if takes_any_tokens(self.manifest):
            return ""
        return max((tokenizer.cut(prompt) for tokenizer in self.tokenizers), key=len)

    def _embed(self, *prompts: str) -> list[TextEmbedding]:
        """Long prompts in several chunks of tokens, embedded one by one and laid end to end.

        Empty ones are added to shorter prompts; what is pooled is the first's.
        """
        ids = [[tokenizer.chunks(prompt) for tokenizer in self.tokenizers] for prompt in prompts]
        longest = max(len(rows) for each in ids for rows in each)
        count = longest if takes_any_tokens(self.manifest) else 1
        texts = []
        for each in ids:
            padded = [
                np.concatenate([rows] + [tokenizer.chunks("")] * (count - len(rows)))
                for rows, tokenizer in zip(each, self.tokenizers, strict=True)
            ]
            chunks = [self._embed_chunk([rows[i : i + 1] for rows in padded]) for i in range(count)]
            hidden = np.concatenate([chunk.hidden for chunk in chunks], 1)
            texts.append(TextEmbedding(hidden, chunks[0].pooled))
        return texts

    def _embed_chunk(self, ids: Sequence[np.ndarray]) -> TextEmbedding:
        """Both encoders' last hidden states but one, side by side, and the second's pooled."""
        states = []
        for part, each in zip(ENCODERS, ids, strict=True):
            outputs = self.run(part, {"input_ids": each})
            states.append(outputs[self.manifest.penultimate[part]])
        return TextEmbedding(np.concatenate(states, -1), outputs["text_embeds"])
