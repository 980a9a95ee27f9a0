"""How figures and the names of columns are written."""

UNITS = {
    "ms": "ms",
    "s": "s",
    "gb": "GB",
    "mb": "MB",
    "megabytes": "MB",
    "gigabytes": "GB",
    "gflop": "GFLOP",
    "db": "dB",
    "percent": "%",
}


def shown(value: str | float | None) -> str:
    """Write a value with three digits that count: 0.0123, 4.57, 31.3, 1,087, 2.5 million."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    size = abs(value)
    if size >= 1e15:
        return f"{value:.3g}"
    if size >= 1e6:
        scale, word = (1e9, "billion") if size >= 1e9 else (1e6, "million")
        return f"{value / scale:,.4g} {word}"
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")  # with its zeros: 14.0 beside 15.5


def shown_in(column: str, value: str | float | None) -> str:
    """Write a column's value: shares of the machine as per cent."""
    if column.startswith("share_of_") and isinstance(value, int | float):
        return f"{100 * value:.3g} %"
    return shown(value)


def heading(column: str) -> str:
    """Write a column's name: 'median_ms' is 'median, ms'."""
    name, _, last = column.rpartition("_")
    if last not in UNITS or name[-1:].isdigit():  # 'above_35_db' counts pictures
        return column.replace("_", " ")
    return f"{name.replace('_', ' ')}, {unit_of(last)}" if name else unit_of(last)


def unit_of(suffix: str) -> str:
    """Write the unit that ends a column's name."""
    return UNITS[suffix]
