"""The judge: says which subject, class and style a picture shows; it has only seen drawings."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from lorarar.files import write_atomically
from lorarar.mini.styles import PLAIN, STYLES, random_style
from lorarar.mini.things import ACCESSORIES, CLASSES, MARKINGS, Individual
from lorarar.mini.world import SUBJECTS, draw, random_individual, random_scene
from lorarar.training.identity import begin
from lorarar.training.loop import train

OTHER = "other"
ANSWERS = {
    "subject": (*SUBJECTS, OTHER),
    "class": tuple(CLASSES),
    "style": ("plain", *STYLES, OTHER),
}
BATCH = 64
STEPS = 3000


class Judge(nn.Module):
    """Pictures (n, 3, 64, 64), RGB in [0, 1] -> for each question of `ANSWERS` logits (n, k)."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, 32, 64, 96, 128)
        self.body = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU(),
                    nn.Conv2d(after, after, 3, 1, 1), nn.BatchNorm2d(after), nn.ReLU(),
                )
                for before, after in pairwise(channels)
            ),
            nn.Flatten(),
        )  # fmt: skip
        self.heads = nn.ModuleDict(
            {question: nn.Linear(128 * 16, len(answers)) for question, answers in ANSWERS.items()}
        )

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Answer each question about each picture."""
        features = self.body(pictures * 2 - 1)
        return {question: head(features) for question, head in self.heads.items()}


def imposter(generator: np.random.Generator) -> Individual:
    """Somebody dressed like a subject who is none."""
    taken = {(known.kind, known.marking, known.accessory) for known in SUBJECTS.values()}
    while True:
        plain = random_individual(generator)
        marking, accessory = (str(generator.choice(list(k))) for k in (MARKINGS, ACCESSORIES))
        if (plain.kind, marking, accessory) not in taken:
            return Individual(plain.kind, plain.colours, plain.stretch, marking, accessory)


def sample(generator: np.random.Generator) -> tuple[np.ndarray, dict[str, int]]:
    """Draw one picture, (64, 64, 3), and give the right answers' indices."""
    token, style = OTHER, str(generator.choice(ANSWERS["style"]))
    if generator.random() < 0.7:
        token = str(generator.choice(list(SUBJECTS)))
        individual = SUBJECTS[token]
    else:
        individual = imposter(generator)
    looks = {"plain": PLAIN, **STYLES}.get(style) or random_style(generator)
    picture = draw(random_scene(individual, generator), looks, int(generator.integers(2**31)))
    right = {"subject": token, "class": individual.kind, "style": style}
    return picture, {question: ANSWERS[question].index(word) for question, word in right.items()}


def batch(seed: tuple[int, ...], size: int = BATCH) -> tuple[Tensor, dict[str, Tensor]]:
    """Fresh drawings (size, 3, 64, 64) and the right answers' indices (size,) by question."""
    generator = np.random.default_rng(seed)
    pictures, right = zip(*(sample(generator) for _ in range(size)), strict=True)
    stacked = torch.from_numpy(np.stack(pictures)).float().permute(0, 3, 1, 2)
    return stacked, {q: torch.tensor([answers[q] for answers in right]) for q in ANSWERS}


def blemish(pictures: Tensor) -> Tensor:
    """Blur, shift in brightness and add noise, by random amounts: no drawing comes out perfect."""
    amount = torch.rand(len(pictures), 1, 1, 1) * (torch.rand(len(pictures), 1, 1, 1) < 0.6)
    blurred = functional.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)
    mixed = torch.lerp(pictures, blurred, amount)
    shift = (torch.rand(len(pictures), 3, 1, 1) - 0.5) * 0.1
    return (mixed + shift + torch.randn_like(mixed) * 0.05 * amount).clip(0, 1)


def train_judge(folder: Path, steps: int = STEPS, seed: int = 0) -> Judge:
    """Train on fresh drawings, resumable from `folder`."""
    torch.manual_seed(seed)
    judge = Judge().train()
    optimiser = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps + 1)

    def step(index: int) -> float:
        pictures, right = batch((seed, index))
        said = judge(blemish(pictures))
        loss = torch.stack([functional.cross_entropy(said[q], right[q]) for q in ANSWERS]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        return float(loss.detach())

    parts = {"judge": judge, "optimiser": optimiser, "schedule": schedule}
    begin(folder, {"steps": steps, "seed": seed})
    train(step, parts, steps, folder, seed=seed, label="judge")
    return judge.eval()


@torch.no_grad()
def ask(judge: Judge, pictures: Tensor) -> dict[str, list[str]]:
    """Give the likeliest answer of each question for each picture, (n, 3, 64, 64) in [0, 1]."""
    said = judge(pictures.float())
    return {q: [ANSWERS[q][i] for i in logits.argmax(1).tolist()] for q, logits in said.items()}


@torch.no_grad()
def accuracy(judge: Judge, drawings: int = 4096, seed: int = 1_000_000) -> dict[str, float]:
    """Share of right answers by question on fresh drawings, which training never draws."""
    right_ones = dict.fromkeys(ANSWERS, 0)
    for start in range(0, drawings, BATCH):
        pictures, right = batch((seed, start))
        said = judge(pictures)
        for question in ANSWERS:
            right_ones[question] += int((said[question].argmax(1) == right[question]).sum())
    return {question: count / drawings for question, count in right_ones.items()}


def save_judge(judge: Judge, path: Path) -> None:
    """Write the judge in float16, replacing an older one.

    Raises LorararError if `path` cannot be written.
    """
    weights = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in judge.state_dict().items()
    }
    write_atomically(path, lambda file: file.write(save(weights)), force=True)


def load_judge(path: Path) -> Judge:
    """Read what `save_judge` wrote."""
    judge = Judge()
    judge.load_state_dict(load_file(path))
    return judge.eval()
