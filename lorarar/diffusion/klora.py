"""K-LoRA (arXiv 2502.18461): at each step, each layer takes the LoRA with the larger Top-K."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from diffusers import StableDiffusionXLPipeline

from lorarar.diffusion.two_loras import Pair, PairedLinear, carrying
from lorarar.lora import Lora

ALPHA, BETA = 1.5, 0.5  # the paper's, for the scale S = ALPHA * t / T + BETA


@contextmanager
def klora(
    pipeline: StableDiffusionXLPipeline, content: Lora, style: Lora
) -> Iterator[dict[str, Any]]:
    """Within this context, calls of the pipeline with these arguments added draw with K-LoRA.

    A layer takes the content LoRA while the sum of the K = r_c * r_s largest |dW_c| exceeds
    S * gamma times that of |dW_s|, else the style LoRA. gamma is the ratio of the summed |dW_c|
    and |dW_s| of all layers; S grows with the share of steps done.
    """
    with carrying(pipeline.unet, content, style) as paired:
        balance = balances({name: layer.pair for name, layer in paired.items()})
        choose_loras(paired, balance, 0.0)

        def after_step(pipe: Any, index: int, time: Any, state: dict) -> dict:
            done = (index + 1) / pipe.num_timesteps
            choose_loras(paired, balance, done if done < 1 else 0.0)  # the next picture starts anew
            return {}

        yield {"callback_on_step_end": after_step}


def balances(pairs: Mapping[str, Pair]) -> dict[str, float]:
    """Return each layer's Top-K sum of |dW_c| over that of |dW_s|, over gamma."""
    top, total = {}, [0.0, 0.0]
    for name, pair in pairs.items():
        differences = [(up @ down).abs().flatten() for up, down in pair]
        kept = min(pair.content[0].shape[1] * pair.style[0].shape[1], len(differences[0]))
        sums = [float(each.topk(kept).values.sum()) for each in differences]
        top[name] = sums
        total = [t + float(each.sum()) for t, each in zip(total, differences, strict=True)]
    gamma = total[0] / max(total[1], 1e-30)
    return {name: c / max(gamma * s, 1e-30) for name, (c, s) in top.items()}


def choose_loras(
    paired: Mapping[str, PairedLinear], balance: Mapping[str, float], done: float
) -> None:
    """Set each layer's LoRA after the share `done` of the steps."""
    for name, layer in paired.items():
        layer.mode = "content" if balance[name] > ALPHA * done + BETA else "style"
