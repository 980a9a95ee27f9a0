"""How things are trained: options with their published defaults, without torch."""

from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Any, Literal, get_args

from lorarar.errors import LorararError
from lorarar.hypernet import PUBLISHED_PROJECTIONS
from lorarar.methods.options import Precision

Objective = Literal["published", "together"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
# What pydantic's fields call it:
COUNT, COUNT_FROM_ZERO, SIDE = {"ge": 1}, {"ge": 0}, {"ge": 8}
ABOVE_ZERO, AT_LEAST_ZERO = {"gt": 0, "allow_inf_nan": False}, {"ge": 0, "allow_inf_nan": False}
SEED = {"ge": 0, "lt": 1 << 32}


class Checked:
    """A dataclass whose fields' types and ranges are checked when it is made, by pydantic.

    Raises LorararError, which names the first that is wrong.
    """

    def __post_init__(self) -> None:
        from pydantic import ValidationError  # here, for commands that train nothing

        recipe: Any = self
        kind: Any = type(self)
        try:
            _model(kind)(**asdict(recipe))
        except ValidationError as error:
            wrong = error.errors()[0]
            raise LorararError(
                f"recipe's {wrong['loc'][0]} is {wrong['input']!r}: {wrong['msg']}"
            ) from error


@cache
def _model(recipe: Any) -> Any:
    from pydantic import ConfigDict, Field, create_model

    options: dict[str, Any] = {
        option.name: (option.type, Field(option.default, **option.metadata))
        for option in fields(recipe)
    }
    return create_model(recipe.__name__, __config__=ConfigDict(strict=True), **options)


@dataclass(frozen=True)
class LoraRecipe(Checked):
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
    side: int | None = field(default=None, metadata=SIDE)
    seed: int = field(default=0, metadata=SEED)
    precision: Precision = "no"
    checkpointing: bool = False
    adam_8bit: bool = False
    prior_prompt: str | None = None
    prior_folder: str | None = None
    prior_images: int = field(default=50, metadata=COUNT)
    prior_weight: float = field(default=1.0, metadata=AT_LEAST_ZERO)
    prior_unprompted: bool = False
    snr_gamma: float = field(default=0.0, metadata=AT_LEAST_ZERO)
    sample_every: int = field(default=0, metadata=COUNT_FROM_ZERO)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior_unprompted and self.prior_prompt is None and self.prior_folder is None:
            raise LorararError("recipe's prior_unprompted needs a prior_prompt or prior_folder")


@dataclass(frozen=True)
class HypernetRecipe(Checked):
    """How a hypernetwork is trained; the defaults are the published ones.

    similarity: lambda, the weight of |cos(m_c, m_s)|. pairs: how many random training pairs are
    used, all by default. validation_pairs: so many more are only validated on. side: in pixels,
    the model's own by default. precision: of the UNet, "no" (float32), "bf16" or "fp16".

    Beyond the paper: objective "together" instead of "published" (`lorarar.training.objective`);
    offsets: the learning rate of the layers' offsets (`lorarar.hypernet`), 0 for none; decay:
    learning rates fall to zero along a cosine.
    """

    steps: int = field(default=5000, metadata=COUNT)
    hidden: int = field(default=128, metadata=COUNT)
    predicts: tuple[str, ...] = PUBLISHED_PROJECTIONS
    similarity: float = field(default=0.01, metadata=AT_LEAST_ZERO)
    learning_rate: float = field(default=0.01, metadata=ABOVE_ZERO)
    batch: int = field(default=1, metadata=COUNT)
    pairs: int | None = field(default=None, metadata=COUNT)
    validation_pairs: int = field(default=8, metadata=COUNT)
    side: int | None = field(default=None, metadata=SIDE)
    seed: int = field(default=0, metadata=SEED)
    precision: Precision = "no"
    checkpointing: bool = False
    save_every: int = field(default=250, metadata=COUNT)
    objective: Objective = OBJECTIVES[0]
    offsets: float = field(default=0.0, metadata=AT_LEAST_ZERO)
    decay: bool = False
