"""Prompts longer than the text encoders take at once, in chunks as the runtime embeds them."""

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor


def chunk_count(pipeline: StableDiffusionXLPipeline, prompt: str) -> int:
    """How many chunks of tokens a prompt becomes: one where it is not too long."""
    return max(len(chunks) for chunks in _ids(pipeline, prompt))


def describe_cut(pipeline: StableDiffusionXLPipeline, captions: list[str]) -> list[str]:
    """Say how many captions are longer than training takes them, if any are."""
    cut = sum(chunk_count(pipeline, caption) > 1 for caption in captions)
    room = pipeline.tokenizer.model_max_length - 2
    return [f"the ends of {cut} captions are left out, beyond {room} tokens"] if cut else []


@torch.no_grad()
def embed_long(
    pipeline: StableDiffusionXLPipeline, prompt: str, chunks: int
) -> tuple[Tensor, Tensor]:
    """Return embeddings (1, chunks * tokens, width) and (1, width) of a prompt.

    Each chunk of tokens is embedded by itself, and empty ones are added to a shorter prompt; what
    is pooled is the first's. See `lorarar.runtime.conditioning.embed_prompts`.
    """
    states, pooled = [], []
    encoders = pipeline.text_encoder, pipeline.text_encoder_2
    empty = _ids(pipeline, "")
    for encoder, ids, padding in zip(encoders, _ids(pipeline, prompt), empty, strict=True):
        rows = torch.cat([ids, *[padding] * (chunks - len(ids))])[:chunks].to(encoder.device)
        outputs = encoder(rows, output_hidden_states=True)
        hidden = outputs.hidden_states[-2]
        states.append(hidden.reshape(1, -1, hidden.shape[-1]))
        pooled.append(outputs[0][:1])
    return torch.cat(states, -1), pooled[-1]


def long_prompt(
    pipeline: StableDiffusionXLPipeline, prompt: str, negative: str | None = None
) -> dict[str, Tensor]:
    """Return arguments of the pipeline that draw a prompt of any length, and lead away from any."""
    texts = [prompt, negative or ""]
    chunks = max(chunk_count(pipeline, text) for text in texts)
    given: dict[str, Tensor] = {}
    for text, which in zip(texts, ("", "negative_"), strict=True):
        embeds, pooled = embed_long(pipeline, text, chunks)
        given |= {f"{which}prompt_embeds": embeds, f"{which}pooled_prompt_embeds": pooled}
    if negative is None and pipeline.config.force_zeros_for_empty_prompt:
        given |= {
            name: torch.zeros_like(given[name]) for name in given if name.startswith("negative_")
        }
    return given


def _ids(pipeline: StableDiffusionXLPipeline, prompt: str) -> list[Tensor]:
    """A prompt's tokens for each text encoder, (chunks, tokens) int64."""
    found = []
    for tokenizer in (pipeline.tokenizer, pipeline.tokenizer_2):
        converted = pipeline.maybe_convert_prompt(prompt, tokenizer)
        ids = tokenizer(converted, add_special_tokens=False, verbose=False).input_ids
        length = tokenizer.model_max_length
        parts = [ids[at : at + length - 2] for at in range(0, max(len(ids), 1), length - 2)]
        rows = [tokenizer.build_inputs_with_special_tokens(part) for part in parts]
        found.append(
            torch.tensor([row + [tokenizer.pad_token_id] * (length - len(row)) for row in rows])
        )
    return found
