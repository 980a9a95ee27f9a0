"""Layers side by side: many small products run faster on one thread each than one after another
on many (2 cores, SDXL, rank 64: 1.3 to 1.9 times, benchmarks/LOG.md)."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Result = TypeVar("Result")
WORTH_A_THREAD = 256  # columns or rows of a layer


def cores() -> int:
    """Count the cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def side_by_side(
    work: Callable[[str], Result], names: Sequence[str], workers: int, widest: int
) -> dict[str, Result]:
    """Return each name's result, in order; BLAS keeps to one thread per worker meanwhile.

    widest: of the layers' widths; narrow ones are done before another thread has begun. Each
    worker takes every n-th name, as handing out one at a time costs more than it balances.
    """
    if workers == 1 or widest < WORTH_A_THREAD:
        return {name: work(name) for name in names}
    with _blas().limit(limits=1), ThreadPoolExecutor(workers) as pool:
        shares = [names[start::workers] for start in range(workers)]
        done = pool.map(lambda share: {name: work(name) for name in share}, shares)
        results = {name: result for share in done for name, result in share.items()}
    return {name: results[name] for name in names}


@cache
def _blas() -> ThreadpoolController:
    """Searching the process for its BLAS takes as long as merging small LoRAs."""
    return ThreadpoolController()
