"""Conv and ConvTranspose, in one or two dimensions, grouped, depthwise, dilated; NHWC, weights turned to match."""

from dataclasses import replace
from typing import Any

import numpy as np

from edgeq.exporters.tflite import order as orders
from edgeq.exporters.tflite.emitter import Array, Emitter
from edgeq.exporters.tflite.ops import fused
from edgeq.exporters.tflite.ops.weights import Weights, weights_of
from edgeq.exporters.tflite.ops.windows import Windows, pad, padding, windows_of
from edgeq.exporters.tflite.schema import S, options
from edgeq.graph.layout import channels_last
from edgeq.plan.plan import Unit
from edgeq.plan.quantization import Quantization


def spatial_shape(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(N, H, W, C) as stored, of a rank-3 or rank-4 feature map; a rank-3 one has H = 1."""
    if len(shape) == 3:
        return shape[0], 1, shape[2], shape[1]
    return shape[0], shape[2], shape[3], shape[1]


def read_map(e: Emitter, unit: Unit, value: str, grid: Quantization | None) -> int:
    """A feature map as (N, H, W, C)."""
    shape = e.shape(value)
    order = orders.permuted(shape, channels_last(len(shape)))
    return e.read(value, grid, spatial_shape(shape), order, f"{unit.op} {unit.name!r} reads it channels last")


def conv(e: Emitter, unit: Unit) -> None:
    """Conv -> CONV_2D or DEPTHWISE_CONV_2D."""
    if unit.weight is None:
        raise e.refuse(unit, "its weights are computed at run time")
    value, result = e.data(unit), unit.outputs[0]
    grid = e.grid_for(unit, value)
    weights = weights_of(e, unit)
    shape, out_shape = e.shape(value), e.shape(result)
    w = windows_of(e, unit, weights.array.shape[2:], shape[2:], out_shape[2:])
    source = read_map(e, unit, value, grid)
    _, height, width, channels = spatial_shape(shape)
    kind = padding(w, height, width)
    if kind is None:
        source, kind = pad(e, unit, source, w, grid), int(S.Padding.VALID)
    groups = int(e.attributes(unit).get("group", 1))
    array = weights.array if weights.array.ndim == 4 else weights.array[:, :, None, :]
    stored_shape = spatial_shape(out_shape)
    order = orders.permuted(out_shape, channels_last(len(out_shape)))
    keys: dict[str, Any] = {
        "padding": kind,
        "strideH": w.strides[0],
        "strideW": w.strides[1],
        "dilationHFactor": w.dilations[0],
        "dilationWFactor": w.dilations[1],
    }
    if groups == channels and array.shape[1] == 1 and groups > 1:
        kernel = weights.write(e, array[:, 0].transpose(1, 2, 0)[None], 3)
        option = options("DepthwiseConv2D", depthMultiplier=array.shape[0] // channels, **keys)
        code = "DEPTHWISE_CONV_2D"
    else:
        kernel = weights.write(e, array.transpose(0, 2, 3, 1), 0)
        option, code = options("Conv2D", **keys), "CONV_2D"
    fused.emit(e, unit, code, [source, kernel, weights.write_bias(e)], stored_shape, order, option)


def conv_transpose(e: Emitter, unit: Unit) -> None:
    """ConvTranspose -> TRANSPOSE_CONV, cropped by SLICE where the pads are not TFLite's own."""
    if unit.weight is None:
        raise e.refuse(unit, "its weights are computed at run time")
    value, result = e.data(unit), unit.outputs[0]
    grid, out_grid = e.grid_for(unit, value), e.grid_for(unit, result)
    weights = weights_of(e, unit)
    shape, out_shape = e.shape(value), e.shape(result)
    source = read_map(e, unit, value, grid)
    kernel = _dilated(e, unit, weights.array if weights.array.ndim == 4 else weights.array[:, :, None, :])
    groups = int(e.attributes(unit).get("group", 1))
    kernel, weights = ungrouped(kernel, groups), replace(weights, grid=ungrouped_grid(weights.grid, groups))
    strides, begin = _steps(e, unit, len(shape) - 2, kernel, spatial_shape(shape), spatial_shape(out_shape))
    _, height, width, _ = spatial_shape(shape)
    n, out_height, out_width, out_channels = spatial_shape(out_shape)
    filters = weights.write(e, kernel.transpose(1, 2, 3, 0), 0)
    option = options("TransposeConv", strideH=strides[0], strideW=strides[1])
    order = orders.permuted(out_shape, channels_last(len(out_shape)))
    bias = weights.write_bias(e)
    w = Windows((kernel.shape[2], kernel.shape[3]), strides, (1, 1), (0, 0), (0, 0))
    same = _same_begin(w, (height, width), (out_height, out_width))
    full = tuple((size - 1) * s + k for size, s, k in zip((height, width), strides, w.kernel, strict=True))
    if same == begin or (begin == (0, 0) and full == (out_height, out_width)):
        option.padding = S.Padding.VALID if full == (out_height, out_width) else S.Padding.SAME
        sizes = e.indices("output_shape", (n, out_height, out_width, out_channels))
        fused.emit(e, unit, "TRANSPOSE_CONV", [sizes, filters, source, bias], spatial_shape(out_shape), order, option)
        return
    # Computed whole, at least as large as asked, then cropped; VALID puts the first output at the first tap.
    whole = tuple(max(f, b + o) for f, b, o in zip(full, begin, (out_height, out_width), strict=True))
    if whole != full:
        raise e.refuse(unit, "its output padding reaches beyond the last tap")
    fused_kind, low, high = fused.split_clamp(unit.clamp, out_grid)
    option.padding, option.fusedActivationFunction = S.Padding.VALID, fused_kind
    wide = e.step(source, f"{result}::whole", (n, *whole, out_channels), out_grid)
    sizes = e.indices("output_shape", (n, *whole, out_channels))
    e.writer.operator("TRANSPOSE_CONV", [sizes, filters, source, bias], [wide], option)
    crop = [e.indices("begin", (0, *begin, 0)), e.indices("size", spatial_shape(out_shape))]
    clamped = np.isfinite([low, high]).any()
    target = e.make(result, out_grid, spatial_shape(out_shape), order, "unclamped" if clamped else "")
    e.writer.operator("SLICE", [wide, *crop], [target], options("Slice"))
    if clamped:
        fused.clamp(e, result, target, e.make(result, out_grid, spatial_shape(out_shape), order), out_grid, low, high)


def ungrouped(kernel: Array, groups: int) -> Array:
    """A grouped (in, out / groups, H, W) kernel as a dense one with zeros: TRANSPOSE_CONV has no groups."""
    if groups == 1:
        return kernel
    inputs, outputs = kernel.shape[0] // groups, kernel.shape[1]
    dense = np.zeros((kernel.shape[0], outputs * groups, *kernel.shape[2:]), kernel.dtype)
    for group in range(groups):
        rows, columns = slice(group * inputs, (group + 1) * inputs), slice(group * outputs, (group + 1) * outputs)
        dense[rows, columns] = kernel[rows]
    return dense


def ungrouped_grid(grid: Quantization | None, groups: int) -> Quantization | None:
    """The scales of a grouped transposed kernel, one for each output channel of the dense one."""
    if grid is None or grid.axis is None or groups == 1:
        return grid
    return grid.with_scales(lambda part: np.tile(part, groups), grid.axis)


def _dilated(e: Emitter, unit: Unit, kernel: Array) -> Array:
    """The kernel with zeros between its taps: TRANSPOSE_CONV has no dilation."""
    spread = list(e.attributes(unit).get("dilations") or [1, 1])
    if len(spread) == 1:
        spread = [1, *spread]
    if spread == [1, 1]:
        return kernel
    extent = [(k - 1) * d + 1 for k, d in zip(kernel.shape[2:], spread, strict=True)]
    result = np.zeros((*kernel.shape[:2], *extent), kernel.dtype)
    result[:, :, :: spread[0], :: spread[1]] = kernel
    return result


def _steps(
    e: Emitter, unit: Unit, rank: int, kernel: Array, source: tuple[int, ...], result: tuple[int, ...]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Strides, and how many rows and columns of the whole result are cut off in front."""
    attributes = e.attributes(unit)
    strides = list(attributes.get("strides") or [1] * rank)
    begin = list((attributes.get("pads") or [0] * 2 * rank)[:rank])
    extra = list(attributes.get("output_padding") or [0] * rank)
    if rank == 1:
        strides, begin, extra = [1, *strides], [0, *begin], [0, *extra]
    auto = attributes.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER") or attributes.get("output_shape"):
        for axis in range(2):
            whole = (source[1 + axis] - 1) * strides[axis] + kernel.shape[2 + axis] + extra[axis]
            total = whole - result[1 + axis]
            # The standard: SAME_UPPER puts the odd one at the end, everything else at the beginning.
            begin[axis] = total // 2 if auto == "SAME_UPPER" else total - total // 2
    return (strides[0], strides[1]), (begin[0], begin[1])


def _same_begin(w: Windows, source: tuple[int, int], result: tuple[int, int]) -> tuple[int, int] | None:
    """The rows and columns that TRANSPOSE_CONV with SAME cuts in front; None if SAME asks for another input size."""
    begin = []
    for axis in range(2):
        if -(-result[axis] // w.strides[axis]) != source[axis]:
            return None
        total = max((source[axis] - 1) * w.strides[axis] + w.kernel[axis] - result[axis], 0)
        begin.append(total // 2)
    return begin[0], begin[1]


__all__ = ["Weights", "conv", "conv_transpose", "read_map", "spatial_shape"]
