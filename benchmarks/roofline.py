"""From counted work and data sheets to a range of times: the roofline (Williams et al. 2009).

A time is the longer of arithmetic and memory, each at a share of the peak: a good share for the
low end, a poor one for the high end. It is a projection, never a measurement.
"""

from dataclasses import dataclass

from lorarar.benchmarks.forms import Cost
from lorarar.benchmarks.phones import Phone, Processor

# Of the peak, (poor, good). Arithmetic: published SDXL passes reach 0.62 on a GPU and 0.35 on an
# NPU; memory: what copies reach of a data sheet's figure.
ARITHMETIC: dict[Processor, tuple[float, float]] = {
    "cpu": (0.25, 0.8),
    "gpu": (0.15, 0.65),
    "npu": (0.1, 0.5),
}
MEMORY = (0.4, 0.85)


@dataclass(frozen=True)
class Range:
    """Milliseconds."""

    low: float
    high: float

    def off(self, known: "Range") -> float:
        """How many times too long (above 1) or too short (below 1) a known time is; 1 if they meet.

        >>> Range(10, 20).off(Range(15, 15)), Range(10, 20).off(Range(40, 60))
        (1.0, 2.0)
        """
        if known.low > self.high:
            return known.low / self.high
        return min(known.high / self.low, 1.0)


@dataclass(frozen=True)
class Rates:
    """What a processor reaches, poor or good. half: GFLOP/s where float16 may be used."""

    gflop_per_second: float
    half: float
    gigabytes_per_second: float

    def milliseconds(self, cost: Cost, in_float16: bool) -> float:
        """Return the longer of arithmetic and memory."""
        arithmetic = cost.gflop / (self.half if in_float16 else self.gflop_per_second)
        return max(arithmetic, cost.gigabytes / self.gigabytes_per_second) * 1e3


def rates(phone: Phone, processor: Processor) -> tuple[Rates, Rates] | None:
    """Return poor and good rates, None where no figure of the processor is known.

    A CPU's poor end is its fastest cluster alone, in float32, as a runner that pins to it has.
    """
    peak = phone.peak(processor)
    if peak is None:
        return None
    poor_share, good_share = ARITHMETIC[processor]
    poor_memory, good_memory = (phone.memory.gigabytes_per_second * share for share in MEMORY)
    single, half = peak
    good = Rates(single * good_share, half * good_share, good_memory)
    if processor == "cpu":
        alone = max(cluster.cores * cluster.gflop_per_second for cluster in phone.cpu)
        return Rates(alone * poor_share, alone * poor_share, poor_memory), good
    return Rates(single * poor_share, half * poor_share, poor_memory), good


def project(
    phone: Phone, processor: Processor, cost: Cost, *, in_float16: bool = False
) -> Range | None:
    """Project a work onto a phone's processor; None where no figure of it is known.

    in_float16: the work may be done in float16, as a model's step is; an NPU does nothing else.
    """
    known = rates(phone, processor)
    if known is None or (processor == "npu" and not in_float16):
        return None
    poor, good = (each.milliseconds(cost, in_float16) for each in known)
    return Range(good, poor)
