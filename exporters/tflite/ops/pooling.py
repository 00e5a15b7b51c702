"""Pooling over H and W; global pooling is MEAN or REDUCE_MAX."""

from typing import Any

import numpy as np

from edgeq.exporters.tflite import order as orders
from edgeq.exporters.tflite.emitter import Emitter, code_dtype
from edgeq.exporters.tflite.ops.convolution import read_map, spatial_shape
from edgeq.exporters.tflite.ops.windows import Windows, padding, windows_of
from edgeq.exporters.tflite.ops.windows import pad as write_pad
from edgeq.exporters.tflite.schema import S, options
from edgeq.graph.layout import channels_last
from edgeq.plan.plan import Unit
from edgeq.plan.quantization import Quantization


def max_pool(e: Emitter, unit: Unit) -> None:
    """MaxPool -> MAX_POOL_2D; explicit pads hold the smallest number of the type."""
    if len(unit.outputs) > 1:
        raise e.refuse(unit, "the indices of the maxima")
    value, grid = e.data(unit), e.grid_for(unit, unit.outputs[0])
    w = _windows(e, unit)
    source = read_map(e, unit, value, grid)
    _, height, width, _ = spatial_shape(e.shape(value))
    kind = padding(w, height, width)
    if kind is None:
        source, kind = _pad_lowest(e, unit, source, w, grid), int(S.Padding.VALID)
    _pool(e, unit, "MAX_POOL_2D", source, w, kind, grid)


def average_pool(e: Emitter, unit: Unit) -> None:
    """AveragePool -> AVERAGE_POOL_2D, whose SAME leaves the padding out of the count."""
    value, grid = e.data(unit), e.grid_for(unit, unit.outputs[0])
    w = _windows(e, unit)
    source = read_map(e, unit, value, grid)
    _, height, width, _ = spatial_shape(e.shape(value))
    counts_padding = bool(e.attributes(unit).get("count_include_pad", 0)) and any(w.begin + w.end)
    kind = None if counts_padding else padding(w, height, width)
    if counts_padding and e.attributes(unit).get("ceil_mode", 0):
        raise e.refuse(unit, "ceil_mode together with count_include_pad")
    if kind is None and not counts_padding:
        _average_of_real_pixels(e, unit, w)
        return
    if kind is None:
        source, kind = write_pad(e, unit, source, w, grid), int(S.Padding.VALID)
    _pool(e, unit, "AVERAGE_POOL_2D", source, w, kind, grid)


def _average_of_real_pixels(e: Emitter, unit: Unit, w: Windows) -> None:
    """Pads that are neither SAME nor VALID, left out of the average: the padded average times window / real pixels.

    In float, whatever the plan says: the factor of an 8-bit product would be off by a step in the interior too.
    """
    if unit.integer:
        e.notes.append(f"AveragePool {unit.name!r} is computed in float: no kernel leaves such pads out of the average")
    value, result = e.data(unit), unit.outputs[0]
    source = write_pad(e, unit, read_map(e, unit, value, None), w, None)
    n, height, width, channels = spatial_shape(e.shape(result))
    averaged = e.step(source, f"{result}::padded_average", (n, height, width, channels), None)
    e.writer.operator("AVERAGE_POOL_2D", [source], [averaged], _option(w, int(S.Padding.VALID)))
    _, rows, columns, _ = spatial_shape(e.shape(value))
    counts = [
        np.array(
            [
                sum(0 <= i * w.strides[axis] + k - w.begin[axis] < size for k in range(w.kernel[axis]))
                for i in range(out)
            ]
        )
        for axis, (out, size) in enumerate(((height, rows), (width, columns)))
    ]
    factor = np.float32(w.kernel[0] * w.kernel[1]) / np.outer(counts[0], counts[1]).astype(np.float32)
    out_shape = e.shape(result)
    target = e.make(
        result, None, (n, height, width, channels), orders.permuted(out_shape, channels_last(len(out_shape)))
    )
    constant = e.writer.constant("window_over_pixels", factor[None, :, :, None])
    e.writer.operator("MUL", [averaged, constant], [target], options("Mul"))


def global_pool(e: Emitter, unit: Unit) -> None:
    """GlobalAveragePool -> MEAN, GlobalMaxPool -> REDUCE_MAX, over H and W."""
    value, result = e.data(unit), unit.outputs[0]
    grid, out_grid = e.grid_for(unit, value), e.grid_for(unit, result)
    rank = len(e.shape(value))
    permutation = e.axes(value, grid)
    if unit.op == "GlobalMaxPool":
        out_grid = grid
    source = e.read_permuted(value, grid, permutation, f"{unit.op} {unit.name!r} reduces its axes")
    axes = sorted(permutation.index(axis) for axis in range(2, rank))
    inputs, option = [source, e.indices("axes", axes)], options("Reducer", keepDims=True)
    if unit.op == "GlobalMaxPool":
        e.writer.operator("REDUCE_MAX", inputs, [e.make_permuted(result, out_grid, permutation)], option)
        return
    with e.made(result, out_grid, *e.permuted(result, permutation)) as target:
        e.writer.operator("MEAN", inputs, [target], option)


def _windows(e: Emitter, unit: Unit) -> Windows:
    kernel = e.attributes(unit)["kernel_shape"]
    w = windows_of(e, unit, kernel, e.shape(e.data(unit))[2:], e.shape(unit.outputs[0])[2:])
    if w.dilations != (1, 1):
        raise e.refuse(unit, "dilated pooling")
    return w


def _pad_lowest(e: Emitter, unit: Unit, source: int, w: Windows, grid: Quantization | None) -> int:
    if grid is not None and int(grid.zero_point) == grid.qmin:
        # The zero point is the smallest code, and PAD, unlike PADV2, is everywhere fast.
        return write_pad(e, unit, source, w, grid)
    n, h, wide, c = e.writer.shape(source)
    shape = (n, h + w.begin[0] + w.end[0], wide + w.begin[1] + w.end[1], c)
    result = e.step(source, f"{unit.outputs[0]}::padded", shape, grid)
    amounts = e.indices("pads", [[0, 0], [w.begin[0], w.end[0]], [w.begin[1], w.end[1]], [0, 0]])
    number = np.finfo(np.float32).min if grid is None else grid.qmin
    lowest = e.writer.constant("lowest", np.array([number], np.float32 if grid is None else code_dtype(grid)), grid)
    e.writer.operator("PADV2", [source, amounts, lowest], [result], options("PadV2"))
    return result


def _pool(e: Emitter, unit: Unit, code: str, source: int, w: Windows, kind: int, grid: Quantization | None) -> None:
    out_shape = e.shape(unit.outputs[0])
    order = orders.permuted(out_shape, channels_last(len(out_shape)))
    target = e.make(unit.outputs[0], grid, spatial_shape(out_shape), order)
    e.writer.operator(code, [source], [target], _option(w, kind))


def _option(w: Windows, kind: int) -> Any:
    return options(
        "Pool2D",
        padding=kind,
        strideH=w.strides[0],
        strideW=w.strides[1],
        filterHeight=w.kernel[0],
        filterWidth=w.kernel[1],
    )
