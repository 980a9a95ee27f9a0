"""What phones can do, by their data sheets: one TOML file each, every figure with its source."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lorarar.errors import LorararError

FOLDER = Path(__file__).with_name("devices")
FLOAT32_LANES = 4  # of a 128-bit vector
Processor = Literal["cpu", "gpu", "npu"]


@dataclass(frozen=True)
class Cluster:
    """Cores of one kind. fma_pipes: multiply-adds of 128-bit vectors that a core begins a cycle."""

    cores: int
    gigahertz: float
    fma_pipes: int
    source: str

    @property
    def gflop_per_second(self) -> float:
        """In float32, of one core."""
        return self.gigahertz * self.fma_pipes * FLOAT32_LANES * 2


@dataclass(frozen=True)
class Memory:
    """gigabytes_per_second: at most, by the data sheet."""

    gigabytes_per_second: float
    source: str


@dataclass(frozen=True)
class Gpu:
    """gflop_per_second: in float32; float16: how many times as much in float16."""

    gflop_per_second: float
    float16: float
    source: str


@dataclass(frozen=True)
class Npu:
    """tera_per_second: 10^12 operations in int8, a multiply-add being two."""

    tera_per_second: float
    source: str


@dataclass(frozen=True)
class Phone:
    """A chip. gpu, npu: None where no figure is known."""

    name: str
    year: int
    memory: Memory
    cpu: tuple[Cluster, ...]
    gpu: Gpu | None = None
    npu: Npu | None = None

    def peak(self, processor: Processor) -> tuple[float, float] | None:
        """Return GFLOP/s in float32 and float16, None where no figure is known.

        In float16 a CPU's vectors have twice the lanes; an NPU counts half of its int8 figure in
        float16, and none for float32.
        """
        if processor == "cpu":
            rate = sum(cluster.cores * cluster.gflop_per_second for cluster in self.cpu)
            return rate, 2 * rate
        if processor == "gpu" and self.gpu:
            return self.gpu.gflop_per_second, self.gpu.gflop_per_second * self.gpu.float16
        if processor == "npu" and self.npu:
            return 0.0, self.npu.tera_per_second * 1e3 / 2
        return None


def read_phones(folder: Path = FOLDER) -> list[Phone]:
    """Read every phone's file, in the order of their names.

    Raises LorararError naming the file and the field if one lacks a figure or its source.
    """
    return [read_phone(path) for path in sorted(folder.glob("*.toml"))]


def read_phone(path: Path) -> Phone:
    """Raises LorararError naming the file and what is wrong with it."""
    try:
        given = tomllib.loads(path.read_text("utf-8"))
        memory = Memory(**given.pop("memory"))
        clusters = tuple(Cluster(**cluster) for cluster in given.pop("cpu"))
        parts: Mapping[str, Any] = {
            name: kind(**given.pop(name))
            for name, kind in (("gpu", Gpu), ("npu", Npu))
            if name in given
        }
        phone = Phone(memory=memory, cpu=clusters, **parts, **given)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LorararError(f"{path}: describes no phone ({error}); see the others") from error
    for part in (phone.memory, *phone.cpu, phone.gpu, phone.npu):
        if part and not (isinstance(part.source, str) and part.source):
            raise LorararError(f"{path}: a figure has no source; say where it is from")
        values = [value for name, value in vars(part).items() if name != "source"] if part else []
        if not all(isinstance(value, int | float) and value > 0 for value in values):
            raise LorararError(f"{path}: {values} are no positive numbers; see the others")
    return phone
