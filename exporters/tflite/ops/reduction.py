"""Reductions over axes, softmax and arg-max: the axes are named where they are stored."""

from collections.abc import Callable
from functools import partial

import numpy as np

from edgeq.exporters.tflite import order as orders
from edgeq.exporters.tflite.emitter import Emitter
from edgeq.exporters.tflite.ops.composed import Composer
from edgeq.exporters.tflite.schema import S, options
from edgeq.plan.ops import SAME_GRID
from edgeq.plan.plan import Unit


def _axes(e: Emitter, unit: Unit, rank: int) -> list[int]:
    attributes = e.attributes(unit)
    given = attributes.get("axes")
    if given is None:
        array = e.static(unit, 1)
        given = None if array is None else array.reshape(-1).tolist()
    if not given:
        return [] if attributes.get("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(int(axis) % rank for axis in given)


def _reduce(code: str, e: Emitter, unit: Unit) -> None:
    value, result = e.data(unit), unit.outputs[0]
    grid, out_grid = e.grid_for(unit, value), e.grid_for(unit, result)
    shape = e.shape(value)
    axes = _axes(e, unit, len(shape))
    if not axes:
        e.define(result, e.any(value, out_grid))
        return
    permutation = e.axes(value, grid)
    source = e.read_permuted(value, grid, permutation, f"{unit.op} {unit.name!r}")
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    # With the reduced axes kept at size 1, dropping them afterwards moves nothing.
    stored = sorted(permutation.index(axis) for axis in axes)
    inputs, option = [source, e.indices("axes", stored)], options("Reducer", keepDims=True)
    form = [kept[a] for a in permutation], orders.permuted(kept, permutation)
    if unit.op in SAME_GRID:
        e.writer.operator(code, inputs, [e.make(result, out_grid, *form)], option)
        return
    with e.made(result, out_grid, *form) as target:
        e.writer.operator(code, inputs, [target], option)


def reduction(code: str) -> Callable[[Emitter, Unit], None]:
    """The writer of a reduction."""
    return partial(_reduce, code)


def composed_reduction(e: Emitter, unit: Unit) -> None:
    """ReduceL1, ReduceL2, ReduceSumSquare, ReduceLogSum, ReduceLogSumExp, in float."""
    value = e.data(unit)
    shape = e.shape(value)
    axes = _axes(e, unit, len(shape))
    permutation = e.axes(value, None)
    x = e.read_permuted(value, None, permutation, f"{unit.op} {unit.name!r}")
    stored = [permutation.index(axis) for axis in axes]
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    order = orders.permuted(kept, permutation)
    c = Composer(e, unit)
    if unit.op == "ReduceLogSumExp":
        largest = c.reduce("REDUCE_MAX", x, stored)
        total = c.reduce("SUM", c.op("EXP", c.op("SUB", x, largest)), stored)
        c.finish("ADD", c.op("LOG", total), largest, order=order)
        return
    inner = {"ReduceL1": "ABS", "ReduceLogSum": ""}.get(unit.op, "SQUARE")
    total = c.reduce("SUM", c.op(inner, x) if inner else x, stored)
    if unit.op in ("ReduceL1", "ReduceSumSquare"):
        c.finish("MUL", total, c.number(1.0), order=order)
    else:
        c.finish("SQRT" if unit.op == "ReduceL2" else "LOG", total, order=order)


def global_lp_pool(e: Emitter, unit: Unit) -> None:
    """GlobalLpPool -> the root of the sum of powers over all axes behind the channels."""
    value = e.data(unit)
    shape, p = e.shape(value), int(e.attributes(unit).get("p", 2))
    permutation = e.axes(value, None)
    c = Composer(e, unit)
    x = c.op("ABS", e.read_permuted(value, None, permutation, f"{unit.op} {unit.name!r}"))
    kept = tuple(size if axis < 2 else 1 for axis, size in enumerate(shape))
    total = c.reduce("SUM", c.op("POW", x, c.number(float(p))), [permutation.index(a) for a in range(2, len(shape))])
    c.finish("POW", total, c.number(1.0 / p), order=orders.permuted(kept, permutation))


def softmax(e: Emitter, unit: Unit) -> None:
    """Softmax, LogSoftmax: TFLite normalizes over the last stored axis."""
    value, result = e.data(unit), unit.outputs[0]
    grid, out_grid = e.grid_for(unit, value), e.grid_for(unit, result)
    shape = e.shape(value)
    rank = len(shape)
    modern = e.graph.opset >= 13
    axis = int(e.attributes(unit).get("axis", -1 if modern else 1)) % rank
    code = "SOFTMAX" if unit.op == "Softmax" else "LOG_SOFTMAX"
    option = options("Softmax", beta=1.0) if unit.op == "Softmax" else options("LogSoftmax")
    why = f"{unit.op} {unit.name!r} normalizes over the last stored axis"
    if not modern and axis != rank - 1:
        # Before opset 13 all axes from this one on are normalized as one.
        rows = (int(np.prod(shape[:axis])), int(np.prod(shape[axis:])))
        source = e.read(value, grid, rows, orders.natural(int(np.prod(shape))), why)
        target = e.make(result, out_grid, rows, orders.natural(int(np.prod(shape))))
    else:
        permutation = e.axes(value, grid)
        if permutation[-1] != axis:
            permutation = (*(a for a in permutation if a != axis), axis)
        source = e.read_permuted(value, grid, permutation, why)
        target = e.make_permuted(result, out_grid, permutation)
    e.writer.operator(code, [source], [target], option)


def arg_extreme(e: Emitter, unit: Unit) -> None:
    """ArgMax, ArgMin."""
    value, result = e.data(unit), unit.outputs[0]
    if e.attributes(unit).get("select_last_index", 0):
        raise e.refuse(unit, "select_last_index")
    shape = e.shape(value)
    axis = int(e.attributes(unit).get("axis", 0)) % len(shape)
    permutation = e.axes(value, None)
    source = e.read_permuted(value, None, permutation, f"{unit.op} {unit.name!r}")
    kept = tuple(1 if a == axis else size for a, size in enumerate(shape))
    stored = [kept[a] for a in permutation if a != axis]
    kind = "ArgMax" if unit.op == "ArgMax" else "ArgMin"
    target = e.make(result, None, stored, orders.permuted(kept, permutation))
    code = "ARG_MAX" if unit.op == "ArgMax" else "ARG_MIN"
    e.writer.operator(
        code,
        [source, e.indices("axis", permutation.index(axis))],
        [target],
        options(kind, outputType=S.TensorType.INT64),
    )
