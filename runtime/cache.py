"""LoRAs that were used last, kept open and ready, so that going back to one takes no time."""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from lorarar.artefacts.pipeline import PipelineManifest
from lorarar.errors import LorararError
from lorarar.formats.source import weights_file
from lorarar.lora import Lora, load_lora
from lorarar.merge import Coefficients, weighted_sum
from lorarar.methods.factored import FACTORED, FactoredName
from lorarar.methods.options import MergeOptions
from lorarar.methods.scheduled import SCHEDULED, Schedule, ScheduledName
from lorarar.runtime.merger import Merger
from lorarar.runtime.slots import Factors, open_lora, pair_factors, slot_factors

Value = TypeVar("Value")

MOST_OPENED, MOST_BYTES_OPENED = 64, 2 << 30  # two of SDXL of rank 128, prepared in float32
MOST_FACTORS, MOST_BYTES = 8, 1 << 30  # for SDXL those of a LoRA of rank 128 have 372 MB


@dataclass
class Cache(Generic[Value]):
    """Values by key, at most so many and of so many bytes as `size_of` counts them.

    Over either limit those used longest ago go; the last one stays, whatever its size.

    >>> squares = Cache[int](most=2, most_bytes=100, size_of=lambda value: 8)
    >>> [squares.get(number, lambda: number**2) for number in (1, 2, 3)]
    [1, 4, 9]
    >>> list(squares.values)
    [2, 3]
    """

    most: int
    most_bytes: int
    size_of: Callable[[Value], int]
    values: OrderedDict[Hashable, Value] = field(default_factory=OrderedDict)
    sizes: dict[Hashable, int] = field(default_factory=dict)

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key; if there is none, what `make` gives, which stays then."""
        if key in self.values:
            self.values.move_to_end(key)
            return self.values[key]
        value = self.values[key] = make()
        self.sizes[key] = self.size_of(value)
        while len(self.values) > 1 and self._is_over():
            oldest, _ = self.values.popitem(last=False)
            del self.sizes[oldest]
        return value

    def clear(self) -> None:
        """Drop every value."""
        self.values.clear()
        self.sizes.clear()

    def _is_over(self) -> bool:
        return len(self.values) > self.most or sum(self.sizes.values()) > self.most_bytes


class FileVersion(NamedTuple):
    """A file as it was when it was looked at: changed in nanoseconds, size in bytes."""

    path: Path
    changed: int
    size: int


def file_version(path: Path) -> FileVersion:
    """Return what tells a changed file from what it was; of a folder, of its first file.

    Raises LorararError if the file cannot be read.
    """
    try:
        about = weights_file(path).stat()
    except OSError as error:
        raise LorararError(
            f"{path}: cannot be read ({error.strerror}); name a LoRA file"
        ) from error
    return FileVersion(path.absolute(), about.st_mtime_ns, about.st_size)


class PairKey(NamedTuple):
    """Two LoRAs to merge, and how."""

    content: FileVersion
    style: FileVersion
    content_scale: float
    style_scale: float
    method: FactoredName


@dataclass
class FactorCache:
    """Factors of LoRA files for an exported folder, made when they are first asked for.

    merger: the exported hypernetwork, if the folder has one. opened: LoRAs of pairs; made: factors,
    ready to draw with; schedules: of methods that choose anew at each step. All are in memory, as
    what is mapped from a file that someone cuts short would end the process.
    """

    folder: Path
    manifest: PipelineManifest
    merger: Merger | None
    workers: int
    opened: Cache[Lora] = field(
        default_factory=lambda: Cache(MOST_OPENED, MOST_BYTES_OPENED, size_of=_bytes_of_lora)
    )
    made: Cache[Factors] = field(
        default_factory=lambda: Cache(MOST_FACTORS, MOST_BYTES, size_of=_bytes_of)
    )
    schedules: Cache[Schedule] = field(
        default_factory=lambda: Cache(MOST_OPENED, MOST_BYTES, size_of=lambda _: 0)
    )

    def get(self, path: Path) -> Factors:
        """Return the factors of one LoRA that draws alone; see `lorarar.runtime.slots`.

        Raises LorararError if it is damaged or does not fit.
        """
        file = file_version(path)
        return self.made.get(
            file, lambda: self.make(_unchanged(file, load_lora(path, mapped=False)))
        )

    def get_pair(self, pair: PairKey) -> Factors:
        """Return the factors of a merged pair.

        Raises LorararError if the LoRAs do not fit, or if the folder has no hypernetwork.
        """
        return self.made.get(pair, lambda: self._merge(pair))

    def get_apart(self, pair: PairKey) -> Factors:
        """Return the factors of a pair, each LoRA's in slots of its own, whatever the folder's are.

        Raises LorararError as `get_pair` does, or if both have a higher rank than the folder takes.
        """
        return self.made.get((pair, "apart"), lambda: self._apart(pair))

    def get_schedule(self, pair: PairKey, method: ScheduledName) -> Schedule:
        """Return when a pair's layers draw with which LoRA.

        Raises LorararError if the LoRAs do not fit.
        """
        loras = self._open(pair.content), self._open(pair.style)
        key = pair.content, pair.style, method
        return self.schedules.get(key, lambda: SCHEDULED[method](*loras, MergeOptions()))

    def merged(self, pair: PairKey) -> Lora:
        """Merge a pair into one LoRA, as for a file; it is not kept.

        Raises LorararError as `get_pair` does.
        """
        content, style = self._open(pair.content), self._open(pair.style)
        scales = pair.content_scale, pair.style_scale
        if pair.method == "lorarar":
            return weighted_sum(content, style, self._predict(content, style), *scales)
        options = MergeOptions(content_scale=scales[0], style_scale=scales[1])
        return FACTORED[pair.method](content, style, options)

    def make(self, lora: Lora) -> Factors:
        """Compute the factors of a LoRA that draws alone; they are not kept.

        Raises LorararError if it does not fit.
        """
        return slot_factors(lora, self.manifest, str(self.folder), self.workers)

    def clear(self) -> None:
        """Close the LoRAs and drop the factors."""
        self.opened.clear()
        self.made.clear()
        self.schedules.clear()

    def _merge(self, pair: PairKey) -> Factors:
        if pair.method == "lorarar" and self.manifest.pairs:
            return self._apart(pair)
        return self.make(self.merged(pair))

    def _apart(self, pair: PairKey) -> Factors:
        loras = self._open(pair.content), self._open(pair.style)
        scales = pair.content_scale, pair.style_scale
        m = self._predict(*loras) if pair.method == "lorarar" else {}
        return pair_factors(loras, m, scales, self.manifest, source=str(self.folder))

    def _predict(self, content: Lora, style: Lora) -> Coefficients:
        if self.merger is None:
            raise LorararError(
                f"{self.folder}: has no hypernetwork; export it with --hypernet, or use "
                "another method"
            )
        return self.merger.coefficients(content, style)

    def _open(self, file: FileVersion) -> Lora:
        source = str(self.folder)
        return self.opened.get(
            file, lambda: _unchanged(file, open_lora(file.path, self.manifest, source))
        )


def _unchanged(file: FileVersion, lora: Lora) -> Lora:
    """Refuse what may be half of one version and half of the next."""
    if file_version(file.path) != file:
        raise LorararError(f"{file.path}: was changed while it was read; try again")
    return lora


def _bytes_of_lora(lora: Lora) -> int:
    arrays = [factor for layer in lora.layers.values() for factor in (layer.up, layer.down)]
    if lora.prepared:
        arrays += [feature.values for feature in lora.prepared.features.values()]
    return sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)


def _bytes_of(factors: Factors) -> int:
    return sum(factor.nbytes for factor in factors.values())
