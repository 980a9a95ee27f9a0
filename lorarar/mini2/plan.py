"""How much of everything a build makes: by kind of machine."""

from dataclasses import dataclass

from lorarar.mini2.denoising import STEPS
from lorarar.mini2.loras import Recipe
from lorarar.mini2.world import SIZES


@dataclass(frozen=True)
class Plan:
    """How much of everything; seconds end a stage early, with its rate fallen to zero."""

    judge_drawings: int
    judge_steps: int
    judge_batch: int
    vae_steps: int
    vae_batch: int
    drawings: int
    steps: int
    batch: int
    recipe: Recipe
    tested: int = 16  # chunks of fresh drawings of each kind
    wishes: int = 192
    pictures: int = SIZES["pictures"]
    sampling: int = STEPS
    judge_seconds: float = float("inf")
    vae_seconds: float = float("inf")
    base_seconds: float = float("inf")
    lora_seconds: float = float("inf")
    swept: int = 6  # LoRAs of each kind that recipes are tried on
    compiled: bool = False


PLANS = {
    "smoke": Plan(512, 4, 16, 8, 8, 512, 4, 16, Recipe(steps=2, batch=1, prior=1, unprompted=1),
        tested=1, wishes=32, pictures=1, swept=1, sampling=1),
    "cpu": Plan(40_000, 8000, 64, 12_000, 16, 60_000, 16_000, 64, Recipe()),
    "gpu": Plan(
        200_000, 11_000, 256, 26_000, 48, 400_000, 15_000, 256, Recipe(rank=4, steps=1400),
        judge_seconds=90, vae_seconds=240, base_seconds=330, lora_seconds=40,
    ),
}  # fmt: skip
