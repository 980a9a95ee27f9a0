"""What is claimed of a merge's speed, and whether figures bear it out; no verdict is written down.

A row is one of `headline`: measured here, projected for a phone, or contributed by a phone's owner.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorarar.benchmarks.devices.merging import MERGED

Row = Mapping[str, Any]
HERE, PROJECTED, CONTRIBUTED = "this machine", "projected: ", "contributed: "
ZIPLORA = "ZipLoRA"
TIMES = 4000
LARGEST_BASE = "sdxl"
SPEEDUPS = "prepared, full", "factored"
BOUNDS = (  # what, the beginning of its rows' names, whether factors are merged, milliseconds
    ("coefficients of a prepared SDXL pair", "prepared, full", False, 50),
    ("a prepared SDXL pair, factors merged", "prepared, full", True, 50),
    ("coefficients of a plain SDXL pair", "factored", False, 1000),
    ("a plain SDXL pair, factors merged", "factored", True, 1000),
    ("a plain SDXL pair, file to file", "file to file", False, 1000),
)


@dataclass(frozen=True)
class Claim:
    """figures: what the verdict was read from."""

    text: str
    holds: bool
    figures: str

    def __str__(self) -> str:
        """As `lorarar report` reads it."""
        verdict = "supported" if self.holds else "not supported"
        return f"claim: {self.text}: {verdict} ({self.figures})"


def claims(rows: Sequence[Row], here: float, phones: Sequence[float]) -> list[Claim]:
    """Judge every claim that the rows tell of.

    here, phones: GFLOP/s in float32, of this machine's matrix product and of the phones' CPUs by
    their data sheets; this machine speaks for phones only where it is no faster than all of them.
    """
    places = dict.fromkeys(row["where"] for row in rows if row["base"] == LARGEST_BASE)
    measured = [each for each in places if not each.startswith(PROJECTED)]
    found: list[Claim] = []
    for form in SPEEDUPS:
        found += _faster_here(rows, form, here, phones)
        found += _faster_on_phones(rows, form)
    for text, form, merged, bound in BOUNDS:
        for place in measured:
            best = _fastest(_rows_of(rows, form, merged, place))
            if best:
                figures = f"{best['median_ms']:.0f} ms, {best['name']}"
                wanted = f"{text} in below {bound} ms, {place}"
                found.append(Claim(wanted, best["median_ms"] < bound, figures))
        found += _bounded_on_phones(rows, text, form, merged, bound)
    return found


def _faster_here(
    rows: Sequence[Row], form: str, here: float, phones: Sequence[float]
) -> Iterator[Claim]:
    slow = _fastest(_rows_of(rows, ZIPLORA, False, HERE))
    fast = _fastest(_rows_of(rows, form, False, HERE))
    if slow and fast:
        times = slow["median_ms"] / fast["median_ms"]
        figures = (
            f"{times:,.0f} times: {slow['name']} {slow['median_ms'] / 1e3:,.0f} s, {fast['name']} "
            f"{fast['median_ms']:.0f} ms, on {here:.0f} GFLOP/s; phones' CPUs have "
            f"{min(phones):.0f} to {max(phones):.0f}"
        )
        text = f"{form}, over {TIMES} times faster than {ZIPLORA} on a phone-class CPU, {HERE}"
        yield Claim(text, times > TIMES and here <= max(phones), figures)


def _faster_on_phones(rows: Sequence[Row], form: str) -> Iterator[Claim]:
    """ZipLoRA at its best against the merge at its worst, on each phone."""
    least: dict[str, float] = {}
    for place in dict.fromkeys(row["where"] for row in rows if row["where"].startswith(PROJECTED)):
        slow, fast = (_rows_of(rows, each, False, place) for each in (ZIPLORA, form))
        if slow and fast:
            worst = min(row["high_ms"] for row in fast)
            least[place] = min(row["low_ms"] for row in slow) / worst
    if least:
        place = min(least, key=lambda each: least[each])
        text = f"{form}, over {TIMES} times faster than {ZIPLORA}, every phone's CPU, projected"
        figures = f"at least {least[place]:,.0f} times, {place.removeprefix(PROJECTED)}"
        yield Claim(text, least[place] > TIMES, figures)


def _bounded_on_phones(
    rows: Sequence[Row], text: str, form: str, merged: bool, bound: float
) -> Iterator[Claim]:
    """By the high end of the form's best kind on each phone."""
    most: dict[str, float] = {}
    for row in rows:
        if row["where"].startswith(PROJECTED) and _is(row, form, merged):
            most[row["where"]] = min(row["high_ms"], most.get(row["where"], row["high_ms"]))
    if most:
        place = max(most, key=lambda each: most[each])
        wanted = f"{text} in below {bound} ms, every phone's CPU, projected"
        figures = f"at most {most[place]:.0f} ms, {place.removeprefix(PROJECTED)}"
        yield Claim(wanted, most[place] < bound, figures)


def _rows_of(rows: Iterable[Row], form: str, merged: bool, place: str) -> list[Row]:
    return [row for row in rows if row["where"] == place and _is(row, form, merged)]


def _is(row: Row, form: str, merged: bool) -> bool:
    name = row["name"].removeprefix("runner, ")
    at_size = row["base"] == LARGEST_BASE
    return at_size and name.startswith(form) and (MERGED in name) == merged


def _fastest(rows: Iterable[Row]) -> Row | None:
    timed = [row for row in rows if row["median_ms"] is not None]
    return min(timed, key=lambda row: row["median_ms"], default=None)
