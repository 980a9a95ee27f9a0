"""The small world's classifier: it knows its subjects, classes and styles by name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

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
    seen: dict[Path, dict[str, Tensor]] = field(default_factory=dict)

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
        shares = self._shares(call.pictures[call.generated], call.side)[kind]
        likeliest = answers[int(shares.argmax())]
        right = likeliest == call.name
        text = "Yes." if right else f"No. The likeliest {kind} is {likeliest}."
        return Reply(text, yes=float(shares[answers.index(call.name)]))

    @torch.inference_mode()
    def _shares(self, path: Path, side: int) -> dict[str, Tensor]:
        """The probabilities of each question's answers; a picture is looked at once."""
        if path not in self.seen:
            picture = read_picture(path, side)
            if picture.size != (SIZE, SIZE):
                raise LorararError(
                    f"{path}: is {picture.width} x {picture.height}; the embedded judge has seen "
                    f"{SIZE} x {SIZE} only, choose another --judge"
                )
            pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 255
            said = self.judge(pixels)
            self.seen.clear()  # what is asked about a picture comes in a row
            self.seen[path] = {kind: logits.softmax(1)[0] for kind, logits in said.items()}
        return self.seen[path]
