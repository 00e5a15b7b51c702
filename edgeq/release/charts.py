"""The report's charts as inline SVG: drawn by the standard library's XML writer, so that no name can become markup.

Colours are CSS classes of the report's style sheet (light, dark and print). Every chart has a title that says in words
what it shows. Numbers stand in it or in a table beside it: nothing is told by colour or place alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from markupsafe import Markup

from edgeq.release.show import show

_WIDTH = 480


@dataclass(frozen=True)
class Mark:
    """One row of a chart.

    Attributes:
        label: its name.
        value: the number; None leaves the row empty.
        kind: its colour class (float, simulated, deployed ...).
        low, high: the ends of its interval, or None.
    """

    label: str
    value: float | None
    kind: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """One line of a chart: a name, its colour class and its points (x, y)."""

    name: str
    kind: str
    points: tuple[tuple[float, float], ...]


def interval_chart(marks: Sequence[Mark], unit: str, title: str, limit: float | None = None) -> Markup:
    """Points with their confidence intervals on one axis, and a limit as a line across."""
    numbers = [n for m in marks for n in (m.value, m.low, m.high) if n is not None] + ([limit] if limit else [])
    if not numbers:
        return Markup("")
    row, left, right = 26, 112, 78
    height = row * len(marks) + 30
    root = _svg(height, title)
    low, high = _widened(min(numbers), max(numbers))
    scale = _Scale(low, high, left, _WIDTH - right)
    for tick in _ticks(low, high, 4):
        _line(root, scale(tick), 4, scale(tick), height - 24, "grid")
        _text(root, scale(tick), height - 8, show(tick, "share" if unit == "metric" else unit), "tick", "middle")
    if limit is not None:
        _line(root, scale(limit), 0, scale(limit), height - 24, "limit")
    for index, mark in enumerate(marks):
        y = row * index + row / 2 + 2
        _text(root, left - 12, y + 4, mark.label, "label", "end")
        if mark.value is None:
            continue
        if mark.low is not None and mark.high is not None:
            _line(root, scale(mark.low), y, scale(mark.high), y, f"whisker {mark.kind}")
        ElementTree.SubElement(
            root,
            "circle",
            {"cx": _number(scale(mark.value)), "cy": _number(y), "r": "5.5", "class": f"dot {mark.kind}"},
        )
        _text(root, _WIDTH - right + 14, y + 4, show(mark.value, unit), "value", "start")
    return _markup(root)


def bar_chart(marks: Sequence[Mark], unit: str, title: str, *, logarithmic: bool = False) -> Markup:
    """Horizontal bars with their numbers; logarithmic where counts span many powers of ten."""
    values = [mark.value for mark in marks if mark.value is not None and mark.value > 0]
    if not values:
        return Markup("")
    row, left, right = 26, 128, 96
    root = _svg(row * len(marks) + 4, title)
    span = _WIDTH - left - right
    for index, mark in enumerate(marks):
        y = row * index + 4
        _text(root, left - 12, y + 14, mark.label, "label", "end")
        if mark.value is None or mark.value <= 0:
            continue
        share = mark.value / max(values)
        if logarithmic:
            share = math.log10(1 + mark.value) / math.log10(1 + max(values))
        attributes = {"x": str(left), "y": _number(y), "width": _number(max(2.0, share * span)), "height": "18"}
        ElementTree.SubElement(root, "rect", attributes | {"rx": "3", "class": f"bar {mark.kind}"})
        number = f"{mark.value:,.0f}" if unit == "count" else show(mark.value, unit)
        _text(root, left + max(2.0, share * span) + 8, y + 14, number, "value", "start")
    return _markup(root)


def line_chart(series: Sequence[Series], x_name: str, y_name: str, title: str, mark_x: float | None = None) -> Markup:
    """Lines over a common axis; mark_x draws a vertical line (the deployed point of a path)."""
    points = [p for line in series for p in line.points if all(map(math.isfinite, p))]
    if len(points) < 2:
        return Markup("")
    height, left, top, bottom = 230, 54, 16, 44
    root = _svg(height, title)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_scale = _Scale(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, left, _WIDTH - 16)
    low, high = _widened(min(0.0, min(ys)) if min(ys) < 0.35 * max(ys) else min(ys), max(ys))
    low = 0.0 if min(ys) >= 0 and low < 0 else low
    y_scale = _Scale(low, high, height - bottom, top)
    for tick in _ticks(low, high, 4):
        _line(root, left, y_scale(tick), _WIDTH - 16, y_scale(tick), "grid")
        _text(root, left - 8, y_scale(tick) + 4, f"{tick:.4g}", "tick", "end")
    for tick in _ticks(min(xs), max(xs), 8):
        _text(root, x_scale(tick), height - bottom + 18, f"{tick:.4g}", "tick", "middle")
    if mark_x is not None and min(xs) <= mark_x <= max(xs):
        _line(root, x_scale(mark_x), top, x_scale(mark_x), height - bottom, "limit")
    for line in series:
        path = " ".join(
            f"{_number(x_scale(x))},{_number(y_scale(y))}"
            for x, y in line.points
            if math.isfinite(x) and math.isfinite(y)
        )
        ElementTree.SubElement(root, "polyline", {"points": path, "class": f"line {line.kind}"})
        for x, y in line.points:
            if math.isfinite(x) and math.isfinite(y):
                place = {"cx": _number(x_scale(x)), "cy": _number(y_scale(y)), "r": "3.5"}
                ElementTree.SubElement(root, "circle", place | {"class": f"dot {line.kind}"})
    _text(root, (left + _WIDTH - 16) / 2, height - 6, x_name, "axis", "middle")
    _text(root, left - 8, 10, y_name, "axis", "start")
    return _markup(root)


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)


def _widened(low: float, high: float) -> tuple[float, float]:
    room = 0.12 * (high - low) or max(0.1 * abs(high), 1e-6)
    return low - room, high + room


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers inside [low, high], at most so many plus one."""
    raw = (high - low) / most
    if raw <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _svg(height: float, title: str) -> ElementTree.Element:
    box = f"0 0 {_WIDTH} {_number(height)}"
    root = ElementTree.Element("svg", {"viewBox": box, "role": "img", "class": "chart", "aria-label": _clean(title)})
    ElementTree.SubElement(root, "title").text = _clean(title)
    return root


def _line(root: ElementTree.Element, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
    ends = {"x1": _number(x1), "y1": _number(y1), "x2": _number(x2), "y2": _number(y2)}
    ElementTree.SubElement(root, "line", ends | {"class": kind})


def _text(root: ElementTree.Element, x: float, y: float, text: str, kind: str, anchor: str) -> None:
    place = {"x": _number(x), "y": _number(y), "class": kind, "text-anchor": anchor}
    short = _clean(text)
    most = 60 if kind == "axis" else 24
    ElementTree.SubElement(root, "text", place).text = short if len(short) <= most else f"{short[: most - 1]}…"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _clean(text: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _markup(root: ElementTree.Element) -> Markup:
    return Markup(ElementTree.tostring(root, encoding="unicode"))
