"""One resumable training loop for everything that is trained."""

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lorarar.errors import LorararError
from lorarar.files import write_atomically

LOG_EVERY = 20


def train(
    step: Callable[[int], float],
    parts: Mapping[str, Any],
    steps: int,
    folder: Path,
    seed: int = 0,
    label: str = "training",
    save_every: int = 500,
) -> None:
    """Call `step(index)`, which optimises and returns its loss, for each index below `steps`.

    parts: everything that changes, each with `state_dict` and `load_state_dict`. Their states go
    to `folder/state.pt` every `save_every` steps, from where a later call goes on. Torch's random
    numbers are seeded by `seed` and the index before each step, so that a run that was stopped
    ends as one that was not, provided `step` draws from nothing else that lasts. The mean loss
    goes to `folder/loss.jsonl` every 20 steps.

    Raises LorararError if the state cannot be read or written, or the loss is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "state.pt"
    first = _restore(parts, state, seed)
    log = folder / "loss.jsonl"
    _forget_after(log, first)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    recent: list[float] = []
    with Progress(*columns) as progress:
        task = progress.add_task(label, total=steps, completed=first)
        for index in range(first, steps):
            torch.manual_seed(seed * 1_000_003 + index)
            recent.append(step(index))
            progress.advance(task)
            done = index + 1
            if done % LOG_EVERY == 0 or done == steps:
                _log(log, done, recent)
                recent = []
            if done % save_every == 0 or done == steps:
                _save(parts, state, done, seed)


def _log(log: Path, done: int, losses: list[float]) -> None:
    loss = sum(losses) / len(losses)
    if not loss < float("inf"):
        raise LorararError(f"{log}: the loss is {loss} at step {done}; lower the learning rate")
    with log.open("a") as file:
        file.write(json.dumps({"step": done, "loss": round(loss, 6)}) + "\n")


def _forget_after(log: Path, step: int) -> None:
    """Drop what a killed run logged after its last saved state."""
    if log.exists():
        kept = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= step]
        log.write_text("".join(line + "\n" for line in kept))


def _save(parts: Mapping[str, Any], path: Path, done: int, seed: int) -> None:
    states = {name: part.state_dict() for name, part in parts.items()}
    content = {"step": done, "seed": seed, "parts": states}
    write_atomically(path, lambda file: torch.save(content, file), force=True)


def _restore(parts: Mapping[str, Any], path: Path, seed: int) -> int:
    if not path.exists():
        return 0
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["seed"] != seed:
            raise LorararError(
                f"{path}: was begun with seed {content['seed']}, not {seed}; remove it to restart"
            )
        for name, part in parts.items():
            part.load_state_dict(content["parts"][name])
        return content["step"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise LorararError(
            f"{path}: no state of this training ({reason}); remove it to start anew"
        ) from error
