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
from lorarar.mini2.samples import CHUNK, QUESTIONS, Drawings
from lorarar.mini2.textures import SIDE

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
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.25))
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
    blurred, more = (
        functional.avg_pool2d(pictures, size, 1, size // 2, count_include_pad=False)
        for size in (3, 5)
    )
    blurred = torch.where(some(0, 1, 1, 1, 1) < 0.3, more, blurred)
    mixed = torch.lerp(pictures, blurred, amount * 0.8)
    shifted = mixed * some(0.94, 1.06, 1, 1, 1) + some(-0.04, 0.04, 3, 1, 1)
    return (shifted + torch.randn_like(mixed) * 0.04 * amount).clamp(0, 1)


def shifted(pictures: Tensor, chosen: Tensor, reach: int = 6) -> Tensor:
    """Take pictures (n, 3, 128, 128) in [0, 1], each moved by some pixels and mirrored or not."""
    count, side = len(chosen), pictures.shape[1]
    device = pictures.device
    along = torch.arange(side, device=device)

    def moved() -> Tensor:
        offset = torch.randint(-reach, reach + 1, (count, 1), device=device)
        return (along + offset).clamp(0, side - 1)

    rows, columns = moved(), moved()
    mirrored = torch.rand(count, 1, device=device) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    taken = pictures[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
    return taken.permute(0, 3, 1, 2) / 255


class Album:
    """Drawings and their answers on the device, filled while training goes on."""

    def __init__(self, *sources: Drawings, limit: int = 10**9) -> None:
        """limit: of chunks taken from each source."""
        counts = [min(limit, source.count) for source in sources]
        capacity = CHUNK * sum(counts)
        self.pictures = torch.zeros(capacity, SIDE, SIDE, 3, dtype=torch.uint8, device=DEVICE)
        self.answers = torch.zeros(capacity, len(QUESTIONS), dtype=torch.int16, device=DEVICE)
        self.count, self.filled = torch.zeros((), device=DEVICE), 0
        self.coming = [
            (source, number)
            for source, count in zip(sources, counts, strict=True)
            for number in range(count)
        ]

    def fill(self, wait: int = 0) -> None:
        """Add the next chunk if it is drawn, and wait for so many."""
        done = 0
        while self.coming:
            source, number = self.coming[0]
            chunk = source[number] if done < wait else source.soon(number)
            if chunk is None:
                return
            last = self.filled + len(chunk.pictures)
            self.pictures[self.filled : last] = torch.from_numpy(chunk.pictures)
            self.answers[self.filled : last] = torch.from_numpy(chunk.answers)
            self.filled = last
            self.count.fill_(last)
            self.coming.pop(0)
            done += 1
            if done > wait:
                return


def train_judge(
    album: Album, steps: int, batch: int, clock: Clock, seed: int = 0
) -> tuple[Judge, int]:
    """Train on drawings, which go on coming."""
    torch.manual_seed(seed)
    judge = Judge().to(DEVICE).train()
    judge.body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss() -> Tensor:
        chosen = (torch.rand(batch, device=DEVICE) * album.count).long()
        seen = blemish(shifted(album.pictures, chosen))
        with autocast():
            said = judge(seen)
        right = album.answers[chosen].long()
        losses = [functional.cross_entropy(s, right[:, q]) for q, s in enumerate(said)]
        return torch.stack(losses).sum()

    done = train(judge, loss, steps, RATE, clock, decay=0.05, each=lambda index: album.fill())
    return judge.eval(), done


@torch.no_grad()
def ask(judge: Judge, pictures: Tensor) -> np.ndarray:
    """Give each question's likeliest answer, (n, questions), for (n, 3, 128, 128) in [0, 1]."""
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
    """Write weights and batch statistics as float16, counters as they are."""
    state = judge.state_dict()
    save_file(
        {
            k: (v.half() if v.is_floating_point() else v).contiguous().cpu()
            for k, v in state.items()
        },
        path,
    )


def load_judge(path: Path) -> Judge:
    """Read what `save_judge` wrote, as float32 on the device, in evaluation mode."""
    judge = Judge()
    judge.load_state_dict(load_file(path))
    return judge.to(DEVICE).eval()
