"""The small world's classifier: it knows its subjects, classes and styles by name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import torch

from lorarar.embedded import EMBEDDED
from lorarar.errors import LorararError
from lorarar.evaluate.calls import Call, Reply, read_picture
from lorarar.evaluate.judges import Ask, JudgeOptions
from lorarar.files import sha256
from lorarar.mini.judge import ANSWERS, OTHER, Judge, load_judge
from lorarar.mini.world import SIZE

WEIGHTS = EMBEDDED / "judge.safetensors"


def name(options: JudgeOptions) -> str:
    """Name the classifier by its weights."""
    return f"embedded {sha256(WEIGHTS)[:12]}"


@asynccontextmanager
async def opened(options: JudgeOptions) -> AsyncIterator[Ask]:
    """Load the classifier."""
    yield Classifier(load_judge(WEIGHTS)).ask


@dataclass(frozen=True)
class Classifier:
    """Says yes where the likeliest answer is the name that is asked for."""

    judge: Judge

    async def ask(self, call: Call) -> Reply:
        """Look at the generated picture alone; references are not looked at."""
        if call.form != "yes or no" or call.beside is None:
            raise LorararError("the embedded judge answers --questions mars2 only")
        kinds = ("subject", "class") if call.beside == "subject" else ("style",)
        known = {kind: ANSWERS[kind] for kind in kinds if call.name in ANSWERS[kind]}
        if not known or call.name == OTHER:
            raise LorararError(
                f"the embedded judge knows no {call.beside} '{call.name}'; it knows "
                f"{', '.join(word for kind in kinds for word in ANSWERS[kind] if word != OTHER)}"
            )
        (kind, answers), *_ = known.items()
        picture = read_picture(call.pictures[call.generated], call.side)
        if picture.size != (SIZE, SIZE):
            raise LorararError(
                f"{call.pictures[call.generated]}: is {picture.width} x {picture.height}; the "
                f"embedded judge has seen {SIZE} x {SIZE} only, choose another --judge"
            )
        pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            shares = self.judge(pixels)[kind].softmax(1)[0]
        likeliest = answers[int(shares.argmax())]
        right = likeliest == call.name
        text = "Yes." if right else f"No. The likeliest {kind} is {likeliest}."
        return Reply(text, yes=float(shares[answers.index(call.name)]))
