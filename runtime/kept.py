"""The factors of the LoRAs that were used last, so that going back to one takes no time."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lorarar.errors import LorararError
from lorarar.runtime.factors import Factors

KEPT_LORAS, KEPT_BYTES = 8, 1 << 30  # of factors: for SDXL a LoRA of rank 128 has 372 MB


@dataclass
class Kept:
    """held: what was used last comes last."""

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


def stamp(path: Path) -> tuple[Path, int, int]:
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
