"""This machine: its name, its own limits, and how a function's time and memory are measured."""

import ctypes
import gc
import math
import os
import platform
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lorarar.errors import LorararError

Result = TypeVar("Result")

SAMPLE_SECONDS = 0.002
WATCH_SECONDS = 0.02
MATMUL_SIZE = 2048
COPY_BYTES = 256 << 20


@dataclass(frozen=True)
class Limits:
    """What the machine reaches on plain large work: float32 matmul, and copying memory."""

    gflop_per_second: float
    gigabytes_per_second: float


def describe() -> dict[str, str | int]:
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def describe_gpu() -> dict[str, str]:
    """The GPU that torch finds, if any."""
    import torch

    return {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def measure_limits() -> Limits:
    """The best of a few runs, with the threads that are set now."""
    square = np.ones((MATMUL_SIZE, MATMUL_SIZE), np.float32)
    source = np.ones(COPY_BYTES, np.uint8)
    target = np.empty_like(source)
    matmul = min(seconds(lambda: square @ square) for _ in range(5))
    copy = min(seconds(lambda: np.copyto(target, source)) for _ in range(5))
    return Limits(2 * MATMUL_SIZE**3 / matmul / 1e9, 2 * COPY_BYTES / copy / 1e9)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleaved(
    works: dict[str, Callable[[], object]], rounds: int, progress: Callable[[str], None]
) -> dict[str, list[float]]:
    """Time each work once a round, so that a change of the machine's mood meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for name, work in works.items():
            progress(f"round {number + 1} of {rounds}: {name}")
            times[name].append(seconds(work))
    return times


def spread(times: list[float]) -> dict[str, float]:
    """Median, smallest and largest, in milliseconds."""
    return {
        "median_ms": statistics.median(times) * 1e3,
        "min_ms": min(times) * 1e3,
        "max_ms": max(times) * 1e3,
    }


@dataclass
class Peak:
    megabytes: float = 0.0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Sample the process's private memory (Linux `RssAnon`; mapped files do not count).

    Yields a Peak, filled at the end with the most that was held above the start; 0 where the
    system does not tell.
    """
    _return_freed_memory()
    with _peak_of(private_megabytes) as peak:
        yield peak


def peak_gpu_memory() -> AbstractContextManager[Peak]:
    """The same of the GPU, whichever processes use it; 0 where there is none."""
    import torch

    return _peak_of(gpu_megabytes) if torch.cuda.is_available() else nullcontext(Peak())


@contextmanager
def _peak_of(megabytes: Callable[[], float]) -> Iterator[Peak]:
    peak, start, stop = Peak(), megabytes(), threading.Event()
    largest = start

    def sample() -> None:
        nonlocal largest
        while not stop.wait(SAMPLE_SECONDS):
            largest = max(largest, megabytes())

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peak
    finally:
        stop.set()
        sampler.join()
        largest = max(largest, megabytes())
        peak.megabytes = max(0.0, largest - start)


def _return_freed_memory() -> None:
    """Give the system what is free but held, which would hide what the work takes (glibc)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim:
        trim(0)


def private_megabytes() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    for line in status.read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return 0.0


def gpu_megabytes() -> float:
    import torch

    free, total = torch.cuda.mem_get_info()
    return (total - free) / 1e6


def alone(work: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
    """Run in a process of its own; returns the result and the most memory held, in MB (Linux)."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        result = pool.submit(work, *arguments).result()
        return result, pool.submit(_most_held, "self").result() / 1e6


def _most_held(process: int | str) -> float:
    """Bytes, 0 if it has ended; "self": this process.

    Not `ru_maxrss`, in which a child starts with its parent's.
    """
    status = Path(f"/proc/{process}/status").read_text()
    lines = [line for line in status.splitlines() if "VmHWM" in line]
    return int(lines[0].split()[1]) * 1024 if lines else 0.0


def run_and_watch(command: list[str], limit: float = math.inf) -> tuple[float, float]:
    """Return a command's seconds and the most memory it held, in GB (Linux).

    Raises LorararError if it fails, or takes more than `limit` seconds.
    """
    started, most = time.perf_counter(), 0.0
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        while process.poll() is None:
            most = max(most, _most_held(process.pid))
            if time.perf_counter() - started > limit:
                process.kill()
                process.wait()
                raise LorararError(f"{' '.join(command)} took more than {limit:.0f} s")
            time.sleep(WATCH_SECONDS)
        if process.returncode:
            said.seek(0)
            raise LorararError(f"{' '.join(command)} failed: {said.read().strip()[-500:]}")
    return time.perf_counter() - started, most / 1e9
