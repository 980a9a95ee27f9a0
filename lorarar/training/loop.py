"""One resumable training loop for everything that is trained."""

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from accelerate import Accelerator
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lorarar.errors import LorararError
from lorarar.files import write_atomically
from lorarar.text_files import read_text
from lorarar.unfinished import make_folder

LOG_EVERY = 20
STATE, LOSSES = "state.pt", "loss.jsonl"
FIRST_WORDS = '{"step": '  # of a line of losses
# What torch raises for files that are cut off, of something else, or of other shapes.
UNUSABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
)


def train(
    step: Callable[[int], float],
    parts: Mapping[str, Any],
    steps: int,
    folder: Path,
    *,
    seed: int = 0,
    label: str = "training",
    save_every: int = 500,
    process: int = 0,
    validate: Callable[[], float] | None = None,
) -> None:
    """Call `step(index)`, which optimises and returns its loss, for each index below `steps`.

    parts: everything that changes, each with `state_dict` and `load_state_dict`. Their states go
    to `folder/state.pt` every `save_every` steps, from where a later call goes on. Torch's random
    numbers are seeded by `seed`, the index and the process before each step, so that a run that
    was stopped ends as one that was not, provided `step` draws from nothing else that lasts. The
    mean loss goes to `folder/loss.jsonl` every 20 steps, and before each save what `validate`
    returns. Of several processes, only number 0 writes.

    Raises LorararError if state or losses are damaged, of another training or cannot be written,
    or if the loss is not finite.
    """
    make_folder(folder)
    first = _resume(parts, folder / STATE, steps, seed)
    log = _Log(folder / LOSSES, process == 0)
    log.forget_after(first)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    recent: list[float] = []
    with Progress(*columns, disable=process != 0) as progress:
        task = progress.add_task(label, total=steps, completed=first)
        for index in range(first, steps):
            torch.manual_seed((seed * 1_000 + process) * 1_000_003 + index)
            recent.append(step(index))
            progress.advance(task)
            done = index + 1
            if done % LOG_EVERY == 0 or done == steps:
                log.write(done, "loss", sum(recent) / len(recent))
                recent = []
            if done % save_every == 0 or done == steps:
                if validate is not None:
                    torch.manual_seed(seed)
                    log.write(done, "validation", validate())
                if process == 0:
                    _save(parts, folder / STATE, done, seed)


def scaler_of(accelerator: Accelerator) -> dict[str, Any]:
    """The part that scales losses, which fp16 on a GPU has."""
    return {"scaler": accelerator.scaler} if accelerator.scaler else {}


class _Log:
    """JSON lines of one process."""

    def __init__(self, path: Path, writes: bool) -> None:
        self.path, self.writes = path, writes

    def write(self, step: int, what: str, loss: float) -> None:
        if not loss < float("inf"):
            raise LorararError(
                f"{self.path}: the {what} is {loss} at step {step}; lower the learning rate"
            )
        if self.writes:
            try:
                with self.path.open("a") as file:
                    file.write(json.dumps({"step": step, what: round(loss, 6)}) + "\n")
            except OSError as error:
                raise LorararError(
                    f"{self.path}: cannot be written ({error}); free some space"
                ) from error

    def forget_after(self, step: int) -> None:
        """Drop what a killed run logged after its last saved state."""
        if self.writes and self.path.exists():
            lines = read_losses(self.path)
            kept = [json.dumps(line) + "\n" for line in lines if line["step"] <= step]
            write_atomically(self.path, lambda file: file.write("".join(kept).encode()), force=True)


def read_losses(path: Path) -> list[dict[str, float]]:
    """Read a training's losses, but for a last line that a power failure or full disk cut off.

    Raises LorararError if any other line is none of a training's.
    """
    lines = read_text(path).split("\n")
    last = lines.pop().strip("\0")  # what follows the last line's end; zeros after a power failure
    found = [_read_loss(path, number, line) for number, line in enumerate(lines, 1)]
    if not FIRST_WORDS.startswith(last[: len(FIRST_WORDS)]):
        raise _no_log(path, len(lines) + 1)
    return found


def _read_loss(path: Path, number: int, line: str) -> dict[str, float]:
    try:
        read = json.loads(line)
        if not isinstance(read["step"], int):
            raise TypeError("a step is a number")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _no_log(path, number) from error
    return read


def _no_log(path: Path, number: int) -> LorararError:
    return LorararError(
        f"{path}: line {number} is none of a training's losses; remove the file, or move it if it "
        "is another's"
    )


def _save(parts: Mapping[str, Any], path: Path, done: int, seed: int) -> None:
    states = {name: part.state_dict() for name, part in parts.items()}
    content = {"step": done, "seed": seed, "parts": states}

    def write(file: BinaryIO) -> None:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch hides the system's error when a disk is full
            raise OSError(str(error.__context__ or error)) from error

    write_atomically(path, write, force=True)


def _resume(parts: Mapping[str, Any], path: Path, steps: int, seed: int) -> int:
    """Return how many steps the saved state has gone, which the parts are now in."""
    if not path.exists():
        return 0
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["seed"] != seed:
            raise LorararError(
                f"{path}: was begun with seed {content['seed']}, not {seed}; remove it to restart"
            )
        if not 0 <= content["step"] <= steps:
            raise LorararError(
                f"{path}: is of step {content['step']}, beyond {steps}; remove it to restart"
            )
        for name, part in parts.items():
            part.load_state_dict(content["parts"][name])
        return content["step"]
    except UNUSABLE as error:
        (reason, *_) = [*str(error).splitlines(), type(error).__name__]
        raise LorararError(
            f"{path}: no state of this training ({reason}); remove it to start anew"
        ) from error
