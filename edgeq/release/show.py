"""Numbers as people read them: one place, so that the report, the summary and the reasons agree."""

import math

_SIZES = ("B", "KB", "MB", "GB", "TB")


def show(value: float | None, unit: str) -> str:
    """A number with its unit; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "\N{EM DASH}" if value is None else str(value)
    match unit:
        case "share":
            return f"{_trim(100 * value, 2)} %"
        case "metric":  # a share beside others: the same digits for all
            return f"{100 * value:.2f} %"
        case "points":
            return f"{_trim(100 * value, 2)} {'point' if round(abs(100 * value), 2) == 1 else 'points'}"
        case "bytes":
            return _bytes(value)
        case "ms" if 0 < abs(value) < 0.1:
            return f"{1000 * value:.3g} µs"
        case "ms":
            return f"{value:.3g} ms" if value < 100 else f"{value:.0f} ms"
        case "ratio":
            return f"{value:.2f}x"
        case "steps":
            return f"{value:g} {'step' if value == 1 else 'steps'}"
        case "percentage":
            return f"{_trim(100 * value, 1)} %"
        case _:
            return f"{value:.4g}"


def show_interval(low: float | None, high: float | None, unit: str) -> str:
    """A confidence interval as "low to high unit"; "" where there is none."""
    if low is None or high is None:
        return ""
    first, last = show(low, unit), show(high, unit)
    number, _, shown = first.partition(" ")
    return f"{number if last.endswith(shown) or unit == 'points' else first} to {last}"


def count(number: int) -> str:
    """A whole number with thousands separated."""
    return f"{number:,}"


def _trim(value: float, digits: int) -> str:
    """Fixed digits, none for a whole number, and no minus zero."""
    text = f"{value:.{digits}f}"
    whole, _, rest = text.partition(".")
    shown = (whole if float(text) else "0") if not rest.strip("0") else text
    return shown.replace("-", "\N{MINUS SIGN}")


def _bytes(value: float) -> str:
    size, index = float(value), 0
    while abs(size) >= 1000 and index < len(_SIZES) - 1:
        size, index = size / 1000, index + 1
    return f"{int(size)} B" if index == 0 else f"{size:.3g} {_SIZES[index]}"
