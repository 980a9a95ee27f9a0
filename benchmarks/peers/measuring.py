"""What the peers' scripts share: the task they are given, what is timed, and what they give back.

Each runs in its own environment, without lorarar: standard library and numpy only.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np

SWAPS = 3
SMALL = 64  # pixels; what a swap costs does not depend on the picture's size
Pair = list[str]  # two LoRA files
Mark = Callable[[], None]
Draw = Callable[[int, int, Mark], np.ndarray]  # steps, side, after each -> (side, side, 3) uint8
Put = Callable[[Pair | None], None]
# When a pair's files are read: as they are put in, while the next picture is drawn, or for every
# picture anew.
Reads = Literal["at once", "while drawing", "each time"]


@dataclass(frozen=True)
class Task:
    """What to draw with.

    model: a diffusers folder, or what was exported from it; kind: the peer's own settings, as how
    weights are stored; pairs: two, put in by turns; side: of the picture in pixels; noise: a .npy
    file, (1, 4, side / 8, side / 8) float32; sigmas: of the schedule, 0 at its end; result: the
    .json to write, beside which pictures go.
    """

    model: str
    kind: str
    pairs: list[Pair]
    prompt: str
    side: int
    steps: int
    guidance: float
    seed: int
    noise: str
    sigmas: list[float]
    threads: int
    result: str

    @classmethod
    def read(cls) -> "Task":
        """Read the file that the command line names."""
        return cls(**json.loads(Path(sys.argv[1]).read_text()))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))


class Clock:
    """Notes when each step ends; times in milliseconds."""

    def __init__(self) -> None:
        self.marks = [time.perf_counter()]

    def mark(self) -> None:
        self.marks.append(time.perf_counter())

    def first(self) -> float:
        return (self.marks[1] - self.marks[0]) * 1e3

    def step(self) -> float:
        return float(median(np.diff(self.marks[1:]))) * 1e3


def measure(
    task: Task, draw: Draw, put: Put, versions: dict[str, str], *, reads: Reads, load_ms: float
) -> None:
    """Draw without and with the first pair, swap a few times, and write the result.

    Where pairs are read "while drawing", a swap is what the first step takes longer than with the
    pair before; "each time", what comes before the first step, above what does without a pair.
    """
    figures: dict[str, float] = {"load_ms": load_ms}
    for name, pair in (("plain", None), ("pair", task.pairs[0])):
        put(pair)
        draw(1, task.side, lambda: None)
        clock = Clock()
        picture = draw(task.steps, task.side, clock.mark)
        figures[f"step_{name}_ms"] = clock.step()
        np.save(Path(task.result).with_suffix(f".{name}.npy"), picture)
    draw(1, SMALL, lambda: None)
    swaps = [_swap(task, draw, put, reads, number) for number in range(1, SWAPS + 1)]
    figures["swap_ms"] = median(swaps)
    Path(task.result).write_text(json.dumps({"figures": figures, "versions": versions}))


def _swap(task: Task, draw: Draw, put: Put, reads: Reads, number: int) -> float:
    pair = task.pairs[number % 2]
    if reads == "each time":
        before = []
        for given in (None, pair):
            put(given)
            before.append(_before_steps(task, draw))
        return before[1] - before[0]
    clock = Clock()
    put(pair)
    if reads == "at once":
        clock.mark()
        return clock.first()
    draw(1, SMALL, clock.mark)
    again = Clock()
    draw(1, SMALL, again.mark)
    return clock.first() - again.first()


def _before_steps(task: Task, draw: Draw) -> float:
    """What a small picture takes before its first step."""
    clock = Clock()
    draw(task.steps, SMALL, clock.mark)
    return clock.first() - clock.step()
