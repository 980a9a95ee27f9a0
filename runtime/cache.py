"""LoRAs that were used last, kept open or ready, so that going back to one takes no time."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from lorarar.artefacts.pipeline import PipelineManifest
from lorarar.errors import LorararError
from lorarar.lora import Lora
from lorarar.runtime.slots import Factors, open_lora

Stamp = tuple[Path, int, int]

OPENED_LORAS = 64  # each holds a file, but no memory
KEPT_LORAS, KEPT_BYTES = 8, 1 << 30  # of factors: for SDXL a LoRA of rank 128 has 372 MB


@dataclass
class Kept:
    """Factors that were used last. held: the last of them comes last."""

    held: OrderedDict[tuple, Factors] = field(default_factory=OrderedDict)

    def recall(self, key: tuple, make: Callable[[], Factors]) -> Factors:
        """What is kept under `key`, or what `make` gives, which is kept then."""
        factors = self.held.pop(key, None) or make()
        self.held[key] = factors
        while len(self.held) > 1 and self._too_much():
            self.held.popitem(last=False)
        return factors

    def _too_much(self) -> bool:
        size = sum(factor.nbytes for factors in self.held.values() for factor in factors.values())
        return len(self.held) > KEPT_LORAS or size > KEPT_BYTES


def stamp(path: Path) -> Stamp:
    """The path, time and size that tell a changed file from what it was.

    Raises LorararError if it cannot be read.
    """
    try:
        about = path.stat()
    except OSError as error:
        raise LorararError(
            f"{path}: cannot be read ({error.strerror}); name a LoRA file"
        ) from error
    return path.absolute(), about.st_mtime_ns, about.st_size


def kept_open(manifest: PipelineManifest, source: str) -> Callable[[Path, int, int], Lora]:
    """Give what opens the LoRA of a `stamp`, and gives it again while its file is the same."""

    @lru_cache(OPENED_LORAS)
    def opened(path: Path, changed: int, size: int) -> Lora:
        return open_lora(path, manifest, source)

    return opened
