"""The activation fused into an op, and the explicit clamp where TFLite has no such fused activation.

An integer op saturates at the ends of its type; a bound that these already hold needs nothing. The ends of a grid of
fewer bits are bounds themselves.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.exporters.tflite.emitter import Emitter, code_dtype
from edgeq.exporters.tflite.order import Order
from edgeq.exporters.tflite.schema import S, options
from edgeq.plan.plan import Unit
from edgeq.plan.quantization import Quantization
from edgeq.plan.stored import HIGHEST, LOWEST, is_narrow

_INFINITE = (-np.inf, np.inf)


def emit(
    e: Emitter,
    unit: Unit,
    code: str,
    inputs: Sequence[int],
    shape: Sequence[int],
    order: Order,
    option: Any,
    version: int | None = None,
) -> None:
    """Write the op that makes the unit's output, its clamp fused or behind it; None: the version its data asks for."""
    value = unit.outputs[0]
    grid = e.grid_for(unit, value)
    fused, low, high = split_clamp(unit.clamp, grid)
    option.fusedActivationFunction = fused
    if (low, high) == _INFINITE:
        _write(e, code, inputs, e.make(value, grid, shape, order), option, version)
        return
    if grid is not None and low in (-np.inf, _real(grid, grid.qmin)) and high in (np.inf, _real(grid, grid.qmax)):
        with e.made(value, grid, shape, order) as target:
            _write(e, code, inputs, target, option, version)
        return
    unclamped = e.make(value, grid, shape, order, "unclamped")
    _write(e, code, inputs, unclamped, option, version)
    clamp(e, value, unclamped, e.make(value, grid, shape, order), grid, low, high)


def _write(e: Emitter, code: str, inputs: Sequence[int], output: int, option: Any, version: int | None) -> None:
    if version is None:
        e.writer.operator(code, inputs, [output], option)
    else:
        e.writer.operator_version(code, version, inputs, [output], option)


def split_clamp(bounds: tuple[float, float] | None, grid: Quantization | None) -> tuple[int, float, float]:
    """(fused activation, low, high): what TFLite fuses, and the bounds that stay to be written (infinite: none)."""
    kinds = S.ActivationFunctionType
    low, high = bounds or _INFINITE
    if grid is not None:
        # A bound at or beyond the grid's last code is held by saturation, if that is its type's last code.
        lowest, highest = (_real(grid, code) for code in (grid.qmin, grid.qmax))
        held_low, held_high = (not is_narrow(grid) or end in (LOWEST, HIGHEST) for end in (grid.qmin, grid.qmax))
        if low <= lowest + _half(grid):
            low = -np.inf if held_low else lowest
        if high >= highest - _half(grid):
            high = np.inf if held_high else highest
    if (low, high) == _INFINITE:
        return kinds.NONE, low, high
    if low == 0.0 and high == 6.0:
        return kinds.RELU6, *_INFINITE
    if low == -1.0 and high == 1.0:
        return kinds.RELU_N1_TO_1, *_INFINITE
    if low == 0.0:
        return kinds.RELU, -np.inf, high
    return kinds.NONE, low, high


def clamp(e: Emitter, value: str, source: int, target: int, grid: Quantization | None, low: float, high: float) -> None:
    """Write target = min(max(source, low), high) with explicit ops; at least one bound is finite."""
    steps = [(code, bound) for code, bound in (("MAXIMUM", low), ("MINIMUM", high)) if np.isfinite(bound)]
    shape = e.writer.shape(source)
    for position, (code, bound) in enumerate(steps):
        last = position == len(steps) - 1
        result = target if last else e.step(source, f"{value}::raised", shape, grid)
        number = np.full((1,), bound, np.float32)
        data = number if grid is None else grid.quantize(number).astype(code_dtype(grid))
        bound_tensor = e.writer.constant(f"{value}::bound", data, grid)
        e.writer.operator(code, [source, bound_tensor], [result], options("MaximumMinimum"))
        source = result


def _real(grid: Quantization, code: int) -> float:
    return float(grid.scale) * (code - int(grid.zero_point))


def _half(grid: Quantization) -> float:
    return 0.5 * float(grid.scale)
