"""The roofline: speed over work per byte, below what the machine itself can do."""

from collections.abc import Iterator, Sequence

from lorarar.report.charts import PROJECTED, is_check, projected, titled, told_apart
from lorarar.report.plots import Curve, LinePlot, Plot
from lorarar.report.read import Measurement, Row, number

HERE = None, "host", "runner"  # where a row was measured, if on the machine itself
APART = 1.04  # between phones that do the same work, which would hide one another


def roofline(measurements: Sequence[Measurement]) -> list[Plot]:
    """Draw what was measured below each machine's roof, and the projected ranges by processor."""
    return [*_measured(measurements), *_projected(measurements)]


def _measured(measurements: Sequence[Measurement]) -> Iterator[LinePlot]:
    for each in measurements:
        if each.is_elsewhere:
            continue  # the limits are those of the machine that drove the device
        here = [row for row in each.rows if row.get("where") in HERE]
        points = [(told_apart(row), point) for row in here if (point := _point(row))]
        arithmetic = number(each.machine, "gflop_per_second")
        memory = number(each.machine, "gigabytes_per_second")
        if not (points and arithmetic and memory and min(arithmetic, memory) > 0):
            continue
        ridge = arithmetic / memory
        every = [ridge, *(x for _, (x, _) in points)]
        roof = [(x, min(arithmetic, x * memory)) for x in (min(every) / 3, ridge, max(every) * 3)]
        curves = [Curve(name, [point], "points") for name, point in points]
        title = f"{each.benchmark}, {titled(each)}"
        limits = Curve("the machine's limits", roof, "roof")
        yield LinePlot(title, "FLOP per byte", "GFLOP/s", [limits, *curves])


def _projected(measurements: Sequence[Measurement]) -> Iterator[LinePlot]:
    processors: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    for row in (row for each in measurements for row in each.rows):
        bar, work = projected(row), _work(row)
        if bar and work and bar.low > 0 and not is_check(row):
            gflop, gigabytes = work
            point = gflop / gigabytes, gflop / bar.high * 1e3, gflop / bar.low * 1e3
            phone = str(row.get("phone") or row.get("where") or row["name"])
            phones = processors.setdefault(str(row.get("processor") or "phones"), {})
            phones.setdefault(phone.removeprefix(PROJECTED), []).append(point)
    for processor, phones in processors.items():
        curves = [
            Curve(phone, [(x * APART**index, low, high) for x, low, high in points], "range")
            for index, (phone, points) in enumerate(phones.items())
        ]
        yield LinePlot(f"Projected: {processor}", "FLOP per byte", "GFLOP/s", curves)


def _work(row: Row) -> tuple[float, float] | None:
    gflop, gigabytes = number(row, "gflop"), number(row, "gigabytes")
    return (gflop, gigabytes) if gflop and gigabytes and min(gflop, gigabytes) > 0 else None


def _point(row: Row) -> tuple[float, float] | None:
    """Return a measured row's FLOP per byte and GFLOP/s, None if it lacks one."""
    work, milliseconds = _work(row), number(row, "median_ms")
    if not (work and milliseconds and milliseconds > 0):
        return None
    gflop, gigabytes = work
    return gflop / gigabytes, gflop / milliseconds * 1e3
