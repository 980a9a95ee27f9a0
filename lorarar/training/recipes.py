"""How things are trained: options with their published defaults, without torch."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from lorarar.hypernet import PUBLISHED_PROJECTIONS
from lorarar.methods.options import Precision

Objective = Literal["published", "together"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
COUNT, ABOVE_ZERO = {"ge": 1}, {"gt": 0, "allow_inf_nan": False}  # what pydantic's fields call it
AT_LEAST_ZERO = {"ge": 0}


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

    rank: int = field(default=64, metadata=COUNT)
    steps: int = field(default=1000, metadata=COUNT)
    learning_rate: float = field(default=5e-5, metadata=ABOVE_ZERO)
    batch: int = field(default=1, metadata=COUNT)
    side: int | None = field(default=None, metadata={"ge": 8})
    seed: int = field(default=0, metadata=AT_LEAST_ZERO)
    precision: Precision = "no"
    checkpointing: bool = False
    adam_8bit: bool = False
    prior_prompt: str | None = None
    prior_folder: str | None = None
    prior_images: int = field(default=50, metadata=COUNT)
    prior_weight: float = field(default=1.0, metadata=AT_LEAST_ZERO)
    prior_unprompted: bool = False
    snr_gamma: float = field(default=0.0, metadata=AT_LEAST_ZERO)
    sample_every: int = field(default=0, metadata=AT_LEAST_ZERO)


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
