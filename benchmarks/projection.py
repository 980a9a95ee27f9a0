"""How long would it take on phones? Rooflines from counted work, held against what is known.

python benchmarks/projection.py
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from lorarar.bases import BASES
from lorarar.benchmarks.devices import choose
from lorarar.benchmarks.devices.measuring import Pace
from lorarar.benchmarks.devices.merging import measure_merges
from lorarar.benchmarks.forms import Cost, cost
from lorarar.benchmarks.machine import describe
from lorarar.benchmarks.merge_latency import DENSE, measure
from lorarar.benchmarks.phones import Phone, Processor, read_phones
from lorarar.benchmarks.report import Report, make_console, publish
from lorarar.benchmarks.roofline import Range, project
from lorarar.benchmarks.step_cost import count_pass
from lorarar.command import run_script
from lorarar.errors import LorararError
from lorarar.hypernet import Hypernet
from lorarar.parallel import cores
from lorarar.standin import standin_lora

RANK = 64
PROCESSORS: tuple[Processor, ...] = ("cpu", "gpu", "npu")
MERGES = {  # of SDXL LoRAs: form and bytes of an element, as `forms.cost` counts them
    DENSE: ("dense", 4),
    "factored": ("factored", 4),
    "prepared, small": ("small", 2),
    "prepared, full-fp32": ("full", 4),
    "prepared, full-fp16": ("full", 2),
    "prepared, full-int8": ("full", 1),
}
SIDES = {768: 96, 1024: 128}  # pixels: cells of latents
BITS = 16, 8, 4
CYCLES = 1.0, 3.0  # instructions that a Cortex-A76 completes in a cycle of such loops
TWICE = 2.0
NOTES = [
    "A projection: the longer of counted arithmetic and counted memory traffic, at a good (low) "
    "and a poor (high) share of what the data sheet promises; nothing here ran on a phone.",
    "merge: of two SDXL LoRAs of rank 64; step: two passes (guidance), activations in float16, "
    "with a pair of rank 64 each where it says so; without text encoders and VAE.",
    "Rows that begin with check: known is what was measured or published, or counted "
    "instructions at 1 to 3 a cycle; off: how many times it lies outside the range (1: inside).",
]


@dataclass(frozen=True)
class Work:
    """Something to project. in_float16: it may run so, on a GPU or NPU, too."""

    name: str
    cost: Cost
    in_float16: bool = False

    def on(self, phone: Phone) -> Iterator[tuple[Processor, Range]]:
        for processor in PROCESSORS if self.in_float16 else PROCESSORS[:1]:
            found = project(phone, processor, self.cost, in_float16=self.in_float16)
            if found:
                yield processor, found


@dataclass(frozen=True)
class Published:
    """A figure of somebody else's. bits: of the weights; passes: of the UNet, in `milliseconds`."""

    phone: str
    processor: Processor
    pixels: int
    bits: int
    passes: int
    milliseconds: float
    source: str


PUBLISHED = (
    Published("Snapdragon 8 Elite", "gpu", 1024, 16, 1, 1610, "Fast-Diffusion, OpenCL"),
    Published("A17 Pro", "npu", 768, 4, 2, 1e3 / 0.85, "Apple's ml-stable-diffusion"),
)


def merges(rank: int = RANK) -> list[Work]:
    """Every form of a merge at SDXL's size."""
    hypernet = Hypernet.random()
    pair = [standin_lora("sdxl", rank, seed) for seed in (1, 2)]
    return [
        Work(f"merge, {name}", cost(form, *pair, hypernet=hypernet, itemsize=size))
        for name, (form, size) in MERGES.items()
    ]


def steps() -> Iterator[Work]:
    """Steps of SDXL by size and weights' bits, without and with a pair."""
    for pixels, side in SIDES.items():
        counted = count_pass("sdxl", side)
        for bits in BITS:
            for rank, pair in ((0, ""), (2 * RANK, ", with a pair")):
                yield Work(
                    f"step, SDXL, {pixels} px, {bits}-bit weights{pair}",
                    counted.cost(bits, rank=rank),
                    in_float16=True,
                )


def row(name: str, phone: str, processor: str, work: Work, found: Range) -> dict[str, Any]:
    return {
        "name": name,
        "phone": phone,
        "processor": processor,
        "work": work.name,
        "low_ms": found.low,
        "high_ms": found.high,
        "known_low_ms": None,
        "known_high_ms": None,
        "off": None,
        "gflop": work.cost.gflop,
        "gigabytes": work.cost.gigabytes,
    }


def checked(
    name: str, phone: str, processor: str, *, work: Work, found: Range, known: Range
) -> dict[str, Any]:
    made = row(f"check: {name}", phone, processor, work, found)
    about = {"known_low_ms": known.low, "known_high_ms": known.high, "off": found.off(known)}
    return made | about


def against_published(phones: Mapping[str, Phone]) -> Iterator[dict[str, Any]]:
    for known in PUBLISHED:
        counted = count_pass("sdxl", SIDES[known.pixels]).cost(known.bits, known.passes)
        passes = "one pass" if known.passes == 1 else "a step"
        work = Work(f"{passes}, SDXL, {known.pixels} px, {known.bits}-bit weights", counted, True)
        found = project(phones[known.phone], known.processor, counted, in_float16=True)
        if found is None:
            raise LorararError(f"{known.phone}: its file has no figure of the {known.processor}")
        yield checked(
            f"published, {known.source}",
            known.phone,
            known.processor,
            work=work,
            found=found,
            known=Range(known.milliseconds, known.milliseconds),
        )


def against_this_machine(rounds: int, console: Console) -> Iterator[dict[str, Any]]:
    """Merges measured here, against a roofline of the limits measured here, within twice that."""
    measured = measure(
        ["numpy"],
        base="sdxl",
        rank=RANK,
        threads=cores(),
        dtype="fp32",
        rounds=rounds,
        console=console,
    )
    machine = measured.machine
    for each in measured.rows:
        if each["gflop"] is None:
            continue
        work = Work(f"merge, {each['name']}", Cost(each["gflop"], each["gigabytes"]))
        floor = 1e3 * max(
            work.cost.gflop / machine["gflop_per_second"],
            work.cost.gigabytes / machine["gigabytes_per_second"],
        )
        found = Range(floor, TWICE * floor)
        name, known = f"this machine, {each['name']}", Range(each["min_ms"], each["max_ms"])
        yield checked(name, machine["cpu"], "cpu", work=work, found=found, known=known)


def against_counts(phones: Mapping[str, Phone], base: str) -> Iterator[dict[str, Any]]:
    """Counted instructions of an emulated Cortex-A76, at 1 to 3 a cycle, against one of a board's.

    Raises LorararError if qemu, the runner's compiler or the exporter is missing.
    """
    board = phones["Raspberry Pi 5"]
    one_core = replace(board, cpu=(replace(board.cpu[0], cores=1),))
    counted, _ = measure_merges(
        choose("emulated-aarch64"),
        "executorch",
        base=base,
        rank=RANK,
        dtype="fp32",
        rounds=1,
        pace=Pace(cool_down=0, sustained=0),
    )
    for each in counted:
        if each["gflop"] is None:
            continue
        work = Work(f"merge, {base}, {each['name']}", Cost(each["gflop"], each["gigabytes"]))
        found = project(one_core, "cpu", work.cost)
        assert found  # every phone has a CPU
        fastest, slowest = (
            each["instructions"] / rate / board.cpu[0].gigahertz / 1e6 for rate in CYCLES[::-1]
        )
        yield checked(
            f"{each['instructions']:,} instructions, one core",
            board.name,
            "cpu",
            work=work,
            found=found,
            known=Range(fastest, slowest),
        )


def conclusion(rows: list[dict[str, Any]]) -> list[str]:
    """Say of every check whether it holds within twice."""
    return [
        f"{each['name']}: {'within' if 1 / TWICE <= each['off'] <= TWICE else 'NOT within'} twice "
        f"the range {each['low_ms']:.3g} to {each['high_ms']:.3g} ms "
        f"(known {each['known_low_ms']:.3g} to {each['known_high_ms']:.3g} ms, off by "
        f"{each['off']:.2f})"
        for each in rows
        if each["off"] is not None
    ]


def main(
    rounds: Annotated[int, typer.Option(min=1, help="of the merges measured here")] = 3,
    emulated_base: Annotated[str, typer.Option(help="whose merges are counted")] = "koala-700m",
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
) -> None:
    """Project merges and SDXL's steps onto phones, and check the projection three ways."""
    console = make_console()
    if emulated_base not in BASES:
        raise LorararError(f"--emulated-base {emulated_base}: use one of {', '.join(BASES)}")
    phones = {phone.name: phone for phone in read_phones()}
    notes = list(NOTES)
    rows = [
        row(f"{name}, {processor}: {work.name}", name, processor, work, found)
        for work in (*merges(), *steps())
        for name, phone in phones.items()
        for processor, found in work.on(phone)
    ]
    checks = [*against_published(phones), *against_this_machine(rounds, console)]
    try:
        with console.status("counting instructions under emulation"):
            checks += against_counts(phones, emulated_base)
    except LorararError as error:
        notes.append(f"counted instructions: left out ({error})")
    settings: dict[str, Any] = {"rank": RANK, "threads": cores(), "dtype": "fp32", "rounds": rounds}
    report = Report(
        benchmark="projection",
        machine=describe(),
        settings=settings,
        rows=rows + checks,
        notes=notes + conclusion(checks),
    )
    publish(report, console, json)


if __name__ == "__main__":
    run_script(main)
