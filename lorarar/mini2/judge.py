"""The judge: says what a picture shows, attribute by attribute; it has only seen drawings."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from lorarar.mini2.machine import DEVICE, Clock, autocast
from lorarar.mini2.optimise import train
from lorarar.mini2.samples import QUESTIONS

CHANNELS = (3, 32, 64, 96, 128, 160)
RATE = 2e-3


class Judge(nn.Module):
    """Pictures (n, 3, 128, 128), RGB in [0, 1] -> logits of all `QUESTIONS`, side by side."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(CHANNELS):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.Conv2d(after, after, 3, 1, 1), nn.BatchNorm2d(after), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.1))
        self.heads = nn.Linear(CHANNELS[-1] * 16, sum(map(len, QUESTIONS.values())))

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return (n, answers) logits for each question."""
        said = self.heads(self.body(pictures * 2 - 1))
        return list(said.float().split([len(each) for each in QUESTIONS.values()], 1))


def blemish(pictures: Tensor) -> Tensor:
    """Blur, shift in brightness and add noise, by random amounts: no drawing comes out perfect."""
    count = len(pictures)

    def some(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, device=pictures.device)

    amount = some(0, 1, 1, 1, 1) * (some(0, 1, 1, 1, 1) < 0.6)
    blurred = functional.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)
    mixed = torch.lerp(pictures, blurred, amount * 0.8)
    shifted = mixed * some(0.94, 1.06, 1, 1, 1) + some(-0.04, 0.04, 3, 1, 1)
    return (shifted + torch.randn_like(mixed) * 0.04 * amount).clamp(0, 1)


def train_judge(
    pictures: Tensor, answers: Tensor, steps: int, batch: int, clock: Clock, seed: int = 0
) -> tuple[Judge, int]:
    """Train on drawings (n, 128, 128, 3) uint8 and their answers (n, questions), on the device."""
    torch.manual_seed(seed)
    judge = Judge().to(DEVICE, memory_format=torch.channels_last).train()

    def loss() -> Tensor:
        chosen = (torch.rand(batch, device=DEVICE) * len(pictures)).long()
        seen = blemish(pictures[chosen].permute(0, 3, 1, 2) / 255)
        with autocast():
            said = judge(seen)
        right = answers[chosen].long()
        losses = [functional.cross_entropy(s, right[:, q]) for q, s in enumerate(said)]
        return torch.stack(losses).sum()

    done = train(judge, loss, steps, RATE, clock, decay=0.02)
    return judge.eval(), done


@torch.no_grad()
def ask(judge: Judge, pictures: Tensor) -> np.ndarray:
    """Give the likeliest answer of each question, (n, questions), for (n, 3, 128, 128) in [0, 1]."""
    device = next(judge.parameters()).device
    said = [
        torch.stack([logits.argmax(1) for logits in judge(part.to(device).float())], 1).cpu()
        for part in pictures.split(512)
    ]
    return torch.cat(said).numpy()


def shares(said: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """The share of right answers by question."""
    return {q: float((said[:, i] == right[:, i]).mean()) for i, q in enumerate(QUESTIONS)}


def save_judge(judge: Judge, path: Path) -> None:
    state = judge.state_dict()
    save_file(
        {
            k: (v.half() if v.is_floating_point() else v).contiguous().cpu()
            for k, v in state.items()
        },
        path,
    )


def load_judge(path: Path) -> Judge:
    judge = Judge()
    judge.load_state_dict(load_file(path))
    return judge.to(DEVICE).eval()
