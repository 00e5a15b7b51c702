"""The report's per-layer table: only columns that hold something, every cell with the number it is sorted by."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from edgeq.release.release import Layer, Release
from edgeq.release.show import count, show


@dataclass(frozen=True)
class Column:
    """A column: its heading, what it means, and whether it holds numbers."""

    heading: str
    meaning: str
    numeric: bool


@dataclass(frozen=True)
class Cell:
    """A cell: what is shown, what it is sorted by, a bar's length of 0 to 100 or None, and a smaller second line."""

    text: str
    key: str
    bar: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class LayerTable:
    """The table; rows pair whether the layer is integer with its cells."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[bool, tuple[Cell, ...]], ...]


_Value = str | float | int | None


def _reason(layer: Layer) -> str | None:
    """Without the one that the bits say already."""
    return None if layer.reason in ("", f"integer {layer.bits}") else layer.reason


_COLUMNS: tuple[tuple[Column, Callable[[Layer], _Value], Callable[[float], str], bool], ...] = (
    (Column("Layer", "path in the PyTorch model, and name in the plan", False), lambda layer: layer.name, str, False),
    (Column("Op", "type of its ONNX node", False), lambda layer: layer.op, str, False),
    (
        Column("Bits", "weights and activations, or float", False),
        lambda layer: "float" if layer.bits == "f" else layer.bits,
        str,
        False,
    ),
    (
        Column("Blame", "share of the climb out of the basin", True),
        lambda layer: layer.blame,
        lambda v: show(v, "percentage"),
        True,
    ),
    (
        Column("SQNR", "signal to quantization noise of its output, all layers before it quantized too", True),
        lambda layer: layer.sqnr_db,
        lambda v: f"{v:.1f} dB".replace("-", "\N{MINUS SIGN}"),
        False,
    ),
    (
        Column("Half-width", "half-width of its basin, in weight units", True),
        lambda layer: layer.half_width,
        lambda v: f"{v:.3g}",
        False,
    ),
    (
        Column("Safe bits", "the fewest safe bits of its weights", True),
        lambda layer: layer.safe_bits,
        lambda v: f"{v:g}",
        False,
    ),
    (
        Column("Parity", "largest difference of simulated and deployed output, in steps", True),
        lambda layer: layer.parity_steps,
        lambda v: f"{v:g}",
        False,
    ),
    (
        Column("MACs", "multiply-accumulates of one sample", True),
        lambda layer: layer.macs,
        lambda v: count(int(v)),
        True,
    ),
    (Column("Parameters", "weights and biases", True), lambda layer: layer.parameters, lambda v: count(int(v)), False),
    (
        Column("Time", "in ONNX Runtime, which tells it layer by layer", True),
        lambda layer: layer.latency_ms,
        lambda v: show(v, "ms"),
        True,
    ),
    (Column("Reason", "why it is float, or how it came to be integer", False), _reason, str, False),
)


def layer_table(release: Release) -> LayerTable:
    """The table of a release; a diagnosis fills in what it knows of each layer."""
    layers = _with_diagnosis(release)
    used = [column for column in _COLUMNS if any(column[1](layer) is not None for layer in layers)]
    largest = {
        column[0].heading: max(
            (abs(v) for layer in layers if isinstance(v := column[1](layer), int | float)), default=0
        )
        for column in used
    }
    rows = tuple(
        (
            layer.integer,
            (
                _named(layer),
                *(_cell(column, value(layer), form, bar, largest) for column, value, form, bar in used[1:]),
            ),
        )
        for layer in layers
    )
    return LayerTable(tuple(column for column, *_ in used), rows)


def _named(layer: Layer) -> Cell:
    if layer.module in ("", layer.name):
        return Cell(layer.name, layer.name)
    return Cell(layer.module, layer.module, detail=layer.name)


def _cell(column: Column, value: _Value, form: Callable[[float], str], bar: bool, largest: dict[str, float]) -> Cell:
    if value is None:
        return Cell("", "")
    if isinstance(value, str):
        return Cell(value, value)
    top = largest[column.heading]
    return Cell(form(value), f"{value:.9g}", round(100 * max(0.0, value) / top, 1) if bar and top > 0 else None)


def _with_diagnosis(release: Release) -> tuple[Layer, ...]:
    told = (release.diagnosis or {}).get("layers")
    known = {entry["name"]: entry for entry in told if isinstance(entry, dict) and "name" in entry} if told else {}
    filled = []
    for layer in release.layers:
        entry = known.get(layer.name, {})
        missing = {
            name: entry[name]
            for name in ("blame", "half_width", "safe_bits")
            if getattr(layer, name) is None and isinstance(entry.get(name), int | float)
        }
        filled.append(replace(layer, **missing))
    return tuple(filled)
