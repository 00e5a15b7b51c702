"""Ops on two tensors with broadcasting, each operand in whatever element order costs least."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from edgeq.exporters.tflite import order as orders
from edgeq.exporters.tflite.emitter import Emitter
from edgeq.exporters.tflite.ops import fused
from edgeq.exporters.tflite.order import Order
from edgeq.exporters.tflite.schema import options
from edgeq.plan.plan import Unit
from edgeq.plan.quantization import Quantization

#: ONNX op -> TFLite op, name of its options, whether it can fuse an activation.
BINARY: dict[str, tuple[str, str, bool]] = {
    "Add": ("ADD", "Add", True),
    "Sub": ("SUB", "Sub", True),
    "Mul": ("MUL", "Mul", True),
    "Div": ("DIV", "Div", True),
    "Pow": ("POW", "Pow", False),  # but for squares and roots, see power
    "Equal": ("EQUAL", "Equal", False),
    "Greater": ("GREATER", "Greater", False),
    "GreaterOrEqual": ("GREATER_EQUAL", "GreaterEqual", False),
    "Less": ("LESS", "Less", False),
    "LessOrEqual": ("LESS_EQUAL", "LessEqual", False),
    "And": ("LOGICAL_AND", "LogicalAnd", False),
    "Or": ("LOGICAL_OR", "LogicalOr", False),
    "Mod": ("FLOOR_MOD", "FloorMod", False),
    "Max": ("MAXIMUM", "MaximumMinimum", False),
    "Min": ("MINIMUM", "MaximumMinimum", False),
    "Sum": ("ADD", "Add", True),
    "Xor": ("NOT_EQUAL", "NotEqual", False),
}


def operand_grid(e: Emitter, unit: Unit, value: str) -> Quantization | None:
    """The grid on which a unit reads an operand; a constant has its own."""
    if not unit.integer:
        return None
    assert e.plan is not None
    if value in e.plan.constants and e.constant(value) is not None:
        return e.plan.constants[value].quantization
    return e.grid(value)


def aligned(e: Emitter, unit: Unit, values: Sequence[str]) -> tuple[list[int], tuple[int, ...], Order]:
    """The operands as tensors that broadcast against each other, and shape and order of the result.

    All follow the element order of the largest computed operand; if all are of one shape and stored alike, nothing is
    asked at all.
    """
    out_shape = e.shape(unit.outputs[0])
    grids = [operand_grid(e, unit, value) for value in values]
    leader = max(
        range(len(values)), key=lambda i: (e.constant(values[i]) is None, int(np.prod(e.shape(values[i]))), -i)
    )
    form = e.any(values[leader], grids[leader])
    why = f"{unit.op} {unit.name!r} reads its operands in one order"
    full = e.shape(values[leader]) == out_shape
    if full and all(e.shape(value) in (out_shape, (), (1,)) for value in values):
        tensors = [
            e.read(value, grid, form.shape, form.order, why)
            if e.shape(value) == out_shape
            else e.read(value, grid, (1,) * len(form.shape), (), why)
            for value, grid in zip(values, grids, strict=True)
        ]
        return tensors, form.shape, form.order
    rank = len(out_shape)
    permutation = e.axes(values[leader], grids[leader])
    permutation = (*range(rank - len(permutation)), *(axis + rank - len(permutation) for axis in permutation))
    tensors = []
    for value, grid in zip(values, grids, strict=True):
        padded = (1,) * (rank - len(e.shape(value))) + e.shape(value)
        tensors.append(e.read_permuted(value, grid, permutation, why, padded))
    stored = tuple(out_shape[axis] for axis in permutation)
    return tensors, stored, orders.permuted(out_shape, permutation)


def binary(e: Emitter, unit: Unit) -> None:
    """An op of the table; with more than two operands (Max, Min, Sum) a chain."""
    code, kind, fuses = BINARY[unit.op]
    values = [value.name for value in e.graph.node(unit.name).inputs if value is not None and value.name]
    if unit.op == "Mod" and e.attributes(unit).get("fmod", 0):
        raise e.refuse(unit, "fmod keeps the sign of the dividend, FLOOR_MOD that of the divisor")
    tensors, shape, order = aligned(e, unit, values)
    tensors = _chain(e, unit, code, kind, tensors)
    option = options(kind)
    if kind in ("Add", "Sub"):
        option.potScaleInt16 = False
    if fuses:
        fused.emit(e, unit, code, tensors, shape, order, option)
        return
    result = unit.outputs[0]
    e.writer.operator(code, tensors, [e.make(result, e.grid_for(unit, result), shape, order)], option)


def power(e: Emitter, unit: Unit) -> None:
    """Pow -> SQUARE or SQRT for those exponents, which runtimes delegate, else POW."""
    exponent = e.constant(e.argument(unit, 1))
    known = None if exponent is None or exponent.size != 1 else float(exponent.reshape(()))
    same_shape = e.shape(e.argument(unit, 0) or "") == e.shape(unit.outputs[0])
    if known == 2.0 and same_shape:
        unary("SQUARE", "Square", e, unit)
    elif known == 0.5 and same_shape:
        unary("SQRT", None, e, unit)
    else:
        binary(e, unit)


def _chain(e: Emitter, unit: Unit, code: str, kind: str, tensors: list[int]) -> list[int]:
    """All but the last step of an op on many operands."""
    while len(tensors) > 2:
        first, second = tensors[:2]
        shape = np.broadcast_shapes(e.writer.shape(first), e.writer.shape(second))
        partial_result = e.step(first, f"{unit.outputs[0]}::partial", shape, None)
        e.writer.operator(code, [first, second], [partial_result], options(kind))
        tensors = [partial_result, *tensors[2:]]
    if len(tensors) == 1:
        raise e.refuse(unit, "a single operand")
    return tensors


def where(e: Emitter, unit: Unit) -> None:
    """Where -> SELECT_V2."""
    values = [value.name for value in e.graph.node(unit.name).inputs if value is not None and value.name]
    tensors, shape, order = aligned(e, unit, values)
    e.writer.operator("SELECT_V2", tensors, [e.make(unit.outputs[0], None, shape, order)], options("SelectV2"))


def unary(code: str, kind: str | None, e: Emitter, unit: Unit, **fields: Any) -> None:
    """A one-input op that works on every element alike: any order will do."""
    value, result = e.data(unit), unit.outputs[0]
    form = e.any(value, e.grid_for(unit, value))
    option = None if kind is None else options(kind, **fields)
    with e.made(result, e.grid_for(unit, result), form.shape, form.order) as target:
        e.writer.operator(code, [form.tensor], [target], option)


def simple(code: str, kind: str | None = None) -> Callable[[Emitter, Unit], None]:
    """The writer of a one-input op without attributes."""
    return partial(unary, code, kind)
