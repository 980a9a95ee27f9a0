"""The one table: ZipLoRA, LoRA.rar as published, ours factored and prepared, wherever it can run.

python benchmarks/headline.py --json headline.json
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from lorarar.artefacts.formats import ENGINES, Dtype, Engine
from lorarar.benchmarks.claims import CONTRIBUTED, HERE, PROJECTED, claims
from lorarar.benchmarks.devices import choose, emulated
from lorarar.benchmarks.devices.measuring import Pace
from lorarar.benchmarks.devices.merging import measure_merges
from lorarar.benchmarks.forms import Cost
from lorarar.benchmarks.machine import Limits, alone
from lorarar.benchmarks.merge_latency import LIMITS, add_runner_rows, measure, shares
from lorarar.benchmarks.phones import Phone, read_phones
from lorarar.benchmarks.projection import RANK, Work, merges
from lorarar.benchmarks.report import Report, make_console, publish
from lorarar.benchmarks.roofline import Range, project
from lorarar.benchmarks.step_cost import count_pass
from lorarar.command import run_script
from lorarar.embedded import NAME
from lorarar.errors import LorararError
from lorarar.parallel import cores
from lorarar.report.read import read_measurements

BASE = "sdxl"
DTYPES: tuple[Dtype, ...] = ("fp32", "fp16", "int8")
CONTRIBUTIONS = Path(__file__).parent / "devices" / "results"
COLUMNS = (
    "name",
    "where",
    "base",
    "median_ms",
    "min_ms",
    "max_ms",
    "low_ms",
    "high_ms",
    "instructions",
    "gflop",
    "gigabytes",
    "share_of_matmul",
    "share_of_memory",
    "peak_megabytes",
)
SMALL_RANK = 8  # of the embedded model's, as of the instructions that devices/record.py keeps
# Passes' worth of arithmetic in a step: for each role one pass for what is wanted, one with the
# merge, and one's worth for the gradients of its inputs. What checkpointing repeats is not counted.
ZIPLORA_PASSES = 6
PUBLISHED_LATENTS = 128
HEADLINE_NOTES = [
    "ZipLoRA's peak is its whole process's, UNet included; its share of matmul is of float32's, "
    f"while it runs in bfloat16; its GFLOP are {ZIPLORA_PASSES} passes a step.",
    "projected: by roofline from data sheets, nothing ran on a phone (docs/projection.md); ZipLoRA "
    "there at 1024 px, as published.",
]


def row_of(where: str, base: str, **known: Any) -> dict[str, Any]:
    """Return a row of the table, None where nothing is known."""
    given = {"where": where, "base": base} | known
    return {column: given.get(column) for column in COLUMNS}


def available() -> list[Engine]:
    """The merging backends that are installed; numpy always is."""
    return [engine for engine in ENGINES if engine != "coreml" and find_spec(engine)]


def measured_here(rounds: int, console: Console) -> Report:
    """Measure each form in each dtype, in Python and by the runner; one table of them all."""
    backends = available()
    table: Report | None = None
    for dtype in DTYPES:
        console.log(f"merging here: {dtype}")
        found = measure(
            backends,
            base=BASE,
            rank=RANK,
            threads=cores(),
            dtype=dtype,
            rounds=rounds,
            console=console,
        )
        add_runner_rows(found, backends)
        rows = [row_of(HERE, BASE, **row) for row in found.rows if _is_new(row["name"], dtype)]
        if table:
            table.rows += rows
            table.notes += [each for each in found.notes if each not in table.notes]
            continue
        table = Report(
            benchmark="headline",
            machine=found.machine,
            settings=found.settings,
            rows=rows,
            notes=found.notes,
        )
        table.settings["dtype"] = " ".join(DTYPES)
    assert table
    return table


def _is_new(name: str, dtype: Dtype) -> bool:
    """Whether a dtype's rows add to those of float32: forms prepared in it."""
    return dtype == DTYPES[0] or f"full-{dtype}" in name


def count_ziplora(base: str, latents: int, rank: int = RANK) -> Cost:
    """Count all of ZipLoRA's steps, weights in 16 bits."""
    from lorarar.benchmarks.ziplora import STEPS

    once = count_pass(base, latents).cost(16, passes=1, rank=2 * rank)
    times = STEPS * ZIPLORA_PASSES
    return Cost(times * once.gflop, times * once.gigabytes)


def ziplora_here(table: Report, steps: int, latents: int, console: Console) -> None:
    """Add ZipLoRA on a UNet of SDXL's size, and on the embedded model with every step real."""
    from lorarar.benchmarks import ziplora

    limits = Limits(*(table.machine[key] for key in LIMITS))
    threads = table.settings["threads"]
    console.log(f"ZipLoRA: {steps} steps at {8 * latents} px")
    found, megabytes = alone(ziplora.time_standin, BASE, RANK, steps, latents, threads)
    table.notes.append(ziplora.describe_steps(found, BASE))
    console.log("ZipLoRA: every step on the embedded model")
    embedded, embedded_megabytes = alone(ziplora.time_embedded, SMALL_RANK, threads)
    table.notes.append(
        f"ZipLoRA, {NAME}: all {len(embedded.milliseconds)} steps real, in float32, on the "
        "embedded model's UNet with its weights and random examples"
    )
    for base, rank, each, held in (
        (BASE, RANK, found, megabytes),
        (NAME, SMALL_RANK, embedded, embedded_megabytes),
    ):
        cost, times = count_ziplora(base, each.latents, rank), each.scaled()
        done = shares(cost.gflop, cost.gigabytes, times["median_ms"] / 1e3, limits)
        table.rows.append(
            row_of(
                HERE,
                base,
                name=ziplora.scaled_name(len(each.milliseconds)),
                **times,
                gflop=cost.gflop,
                gigabytes=cost.gigabytes,
                peak_megabytes=held,
                **done,
            )
        )


def counted() -> Iterator[dict[str, Any]]:
    """The embedded base's merges under emulation, in instructions.

    Raises LorararError if qemu, the cross compiler or the exporter is missing.
    """
    emulated.require_qemu()
    rows, _ = measure_merges(
        choose("emulated-aarch64"),
        "executorch",
        base=NAME,
        rank=SMALL_RANK,
        dtype=DTYPES[0],
        rounds=1,
        pace=Pace(cool_down=0, sustained=0),
    )
    yield from (row_of("emulated-aarch64", NAME, **row) for row in rows)


def projected(phones: list[Phone]) -> Iterator[dict[str, Any]]:
    """Every form, and ZipLoRA at the published size, on each phone's CPU."""
    published = Work("ZipLoRA, 100 steps", count_ziplora(BASE, PUBLISHED_LATENTS), True)
    for work in (published, *merges()):
        for phone in phones:
            found = project(phone, "cpu", work.cost, in_float16=work.in_float16)
            if found:
                yield _projected_row(phone, work, found)


def _projected_row(phone: Phone, work: Work, found: Range) -> dict[str, Any]:
    return row_of(
        PROJECTED + phone.name,
        BASE,
        name=work.name.removeprefix("merge, "),
        low_ms=found.low,
        high_ms=found.high,
        gflop=work.cost.gflop,
        gigabytes=work.cost.gigabytes,
    )


def contributed(folder: Path = CONTRIBUTIONS) -> Iterator[dict[str, Any]]:
    """What phones' owners measured.

    Raises LorararError naming a file that is none of a benchmark's.
    """
    for each in read_measurements(sorted(folder.glob("*.json"))):
        base = str(each.settings.get("base") or NAME)
        yield from (row_of(CONTRIBUTED + each.place, base, **row) for row in each.rows)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="of each merge here")] = 5,
    ziplora_steps: Annotated[int, typer.Option(min=1, help="real ones, scaled to 100")] = 2,
    ziplora_latents: Annotated[int, typer.Option(min=8, help="its latents' side")] = 64,
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
) -> None:
    """Print one table of every form in every place, and what it says of our claims."""
    console = make_console()
    phones = read_phones()
    owners = list(contributed())
    table = measured_here(rounds, console)
    ziplora_here(table, ziplora_steps, ziplora_latents, console)
    console.log("counting instructions under emulation")
    try:
        table.rows += counted()
    except LorararError as error:
        table.notes.append(f"emulated: left out ({error})")
    table.rows += [*projected(phones), *owners]
    table.settings |= {"ziplora_steps": ziplora_steps, "ziplora_latents": ziplora_latents}
    table.notes += HEADLINE_NOTES
    peaks = [peak[0] for phone in phones if (peak := phone.peak("cpu"))]
    here = table.machine["gflop_per_second"]
    table.notes += map(str, claims(table.rows, here, peaks))
    publish(table, console, json)


if __name__ == "__main__":
    run_script(main)
