"""What this machine can do: where to train, in which precision, and steps without launches."""

import os
import time
from collections.abc import Callable

import torch
from torch import Tensor

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision() -> torch.dtype:
    """bfloat16 where it is computed and not emulated, else float32.

    Emulated, a step takes fifteen times as long (an EPYC with AVX2 only).
    """
    if DEVICE.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def autocast() -> torch.autocast:
    """Have torch compute in `precision()`; changes nothing where that is float32."""
    dtype = precision()
    return torch.autocast(DEVICE.type, dtype, enabled=dtype != torch.float32)


def workers() -> int:
    """Processes that draw beside this one."""
    cores = len(os.sched_getaffinity(0))
    return cores - 1 if cores > 1 else 0


def faster(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """On a GPU, record `step` as a graph, to be replayed without launching its kernels one by one.

    step: takes nothing, changes tensors in place, returns its loss; it is run a few times first.
    """
    if DEVICE.type != "cuda":
        return step
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()

    def replay() -> Tensor:
        graph.replay()
        return loss

    return replay


class Clock:
    """Says how long each stage took, and whether a stage's time is up."""

    def __init__(self, label: str, seconds: float = float("inf")) -> None:
        self.label, self.seconds, self.started = label, seconds, time.perf_counter()

    @property
    def spent(self) -> float:
        """Seconds since the start; training that goes on adds those before it was stopped."""
        return time.perf_counter() - self.started

    @property
    def left(self) -> float:
        """Seconds until the time is up: below 0 afterwards, infinite without a limit."""
        return self.seconds - self.spent

    @property
    def share(self) -> float:
        """How much of the time is spent, from 0 to 1."""
        return min(1.0, self.spent / self.seconds)

    def say(self, text: str) -> None:
        """Print a line at once, with the label and the seconds spent before it."""
        print(f"[{self.label} {self.spent:6.1f} s] {text}", flush=True)
