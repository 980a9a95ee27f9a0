"""How things are trained: options with their published defaults, without torch."""

from dataclasses import dataclass
from typing import Literal, get_args

from lorarar.hypernet import PUBLISHED_PROJECTIONS
from lorarar.methods.options import Precision

Objective = Literal["published", "together"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


@dataclass(frozen=True)
class LoraRecipe:
    """How a LoRA is trained; the defaults are those of LoRA.rar's paper (arXiv 2412.05148).

    learning_rate: at the start, from where it falls evenly to 0. side: in pixels, the model's own
    by default. precision: "no" (float32), "bf16" or "fp16".
    prior_prompt: keep what the model draws for it (`prior_images` of its own pictures) as it is.
    prior_folder: keep these pictures, with their captions, instead; for many LoRAs drawn once.
    prior_unprompted: show what is kept also without its prompts. Then what guidance starts from
    stays as it is, and guidance strengthens all that the LoRA adds.
    snr_gamma: min-SNR weights (arXiv 2303.09556), 5 is usual: what has little noise, and so tells
    little of shapes and colours, counts less. 0: all alike.
    sample_every: draw the prompt after every so many steps, 0 for never.
    """

    rank: int = 64
    steps: int = 1000
    learning_rate: float = 5e-5
    batch: int = 1
    side: int | None = None
    seed: int = 0
    precision: Precision = "no"
    checkpointing: bool = False
    adam_8bit: bool = False
    prior_prompt: str | None = None
    prior_folder: str | None = None
    prior_images: int = 50
    prior_weight: float = 1.0
    prior_unprompted: bool = False
    snr_gamma: float = 0.0
    sample_every: int = 0


@dataclass(frozen=True)
class HypernetRecipe:
    """How a hypernetwork is trained; the defaults are the published ones.

    similarity: lambda, the weight of |cos(m_c, m_s)|. pairs: how many random training pairs are
    used, all by default. validation_pairs: so many more are only validated on. side: in pixels,
    the model's own by default. precision: of the UNet, "no" (float32), "bf16" or "fp16".

    Beyond the paper: objective "together" instead of "published" (`lorarar.training.objective`);
    offsets: the learning rate of the layers' offsets (`lorarar.hypernet`), 0 for none; decay:
    learning rates fall to zero along a cosine.
    """

    steps: int = 5000
    hidden: int = 128
    predicts: tuple[str, ...] = PUBLISHED_PROJECTIONS
    similarity: float = 0.01
    learning_rate: float = 0.01
    batch: int = 1
    pairs: int | None = None
    validation_pairs: int = 8
    side: int | None = None
    seed: int = 0
    precision: Precision = "no"
    checkpointing: bool = False
    save_every: int = 250
    objective: Objective = OBJECTIVES[0]
    offsets: float = 0.0
    decay: bool = False
