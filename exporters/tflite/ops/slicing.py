"""Cutting out and padding: Slice, Split, Gather, Pad."""

from collections.abc import Sequence

import numpy as np

from edgeq.exporters.tflite import order as orders
from edgeq.exporters.tflite.emitter import Emitter, code_dtype
from edgeq.exporters.tflite.ops.convolution import read_map, spatial_shape
from edgeq.exporters.tflite.schema import S, options
from edgeq.graph.layout import channels_last
from edgeq.plan.plan import Unit
from edgeq.plan.quantization import Quantization, per_tensor


def slice_(e: Emitter, unit: Unit) -> None:
    """Slice -> SLICE; with steps along H and W alone a 1x1 depthwise convolution."""
    value, result = e.data(unit), unit.outputs[0]
    grid = e.grid_for(unit, result)
    shape, out_shape = e.shape(value), e.shape(result)
    starts, steps = _ranges(e, unit, shape)
    if out_shape == shape and all(step == 1 for step in steps):
        e.define(result, e.any(value, grid))
        return
    strided = [axis for axis, step in enumerate(steps) if step != 1]
    whole_rows = all(start == 0 for start in starts) and all(
        out == -(-size // step) for out, size, step in zip(out_shape, shape, steps, strict=True)
    )
    floating = grid is not None or e.values.dtypes[value] == "float32"
    if strided and whole_rows and floating and len(shape) in (3, 4) and min(strided) >= 2 and min(steps) > 0:
        _strided(e, unit, steps, grid)
        return
    permutation = e.axes(value, grid)
    source = e.read_permuted(value, grid, permutation, f"Slice {unit.name!r}")
    target = e.make_permuted(result, grid, permutation)
    begin, size, step = (_moved(numbers, permutation) for numbers in (starts, out_shape, steps))
    if not strided:
        e.writer.operator(
            "SLICE", [source, e.indices("begin", begin), e.indices("size", size)], [target], options("Slice")
        )
        return
    ends = [b + n * s for b, n, s in zip(begin, size, step, strict=True)]
    end_mask = sum(1 << axis for axis, end in enumerate(ends) if end < 0)
    arguments = [e.indices("begin", begin), e.indices("end", ends), e.indices("strides", step)]
    e.writer.operator("STRIDED_SLICE", [source, *arguments], [target], options("StridedSlice", endMask=end_mask))


def _ranges(e: Emitter, unit: Unit, shape: Sequence[int]) -> tuple[list[int], list[int]]:
    """(first index, step) for every axis, resolved as the ONNX standard says."""
    attributes = e.attributes(unit)
    if "starts" in attributes:
        given = attributes["starts"], attributes.get("axes"), None
    else:
        arrays = [e.static(unit, position) for position in (1, 3, 4)]
        assert arrays[0] is not None
        given = tuple(None if array is None else array.reshape(-1).tolist() for array in arrays)  # type: ignore[assignment]
    firsts, axes, steps = given
    axes = list(range(len(firsts))) if axes is None else axes
    steps = [1] * len(firsts) if steps is None else steps
    starts, strides = [0] * len(shape), [1] * len(shape)
    for first, axis, step in zip(firsts, axes, steps, strict=True):
        size = shape[axis]
        first = first + size if first < 0 else first
        starts[axis] = int(min(max(first, 0), size if step > 0 else size - 1))
        strides[axis] = int(step)
    return starts, strides


def _strided(e: Emitter, unit: Unit, steps: Sequence[int], grid: Quantization | None) -> None:
    """Every n-th row and column.

    STRIDED_SLICE is not delegated and cost a third of the time of a ResNet-20. A depthwise convolution with the 1x1
    kernel [1] gives the same codes to the last bit (its requantization is by exactly 1) and keeps the model in one
    piece; 16-bit codes take a 1x1 MAX_POOL_2D, which needs no 64-bit bias.
    """
    value, result = e.data(unit), unit.outputs[0]
    source = read_map(e, unit, value, grid)
    step = (1, steps[2]) if len(steps) == 3 else (steps[2], steps[3])
    out_shape = e.shape(result)
    target = e.make(result, grid, spatial_shape(out_shape), orders.permuted(out_shape, channels_last(len(out_shape))))
    keys = {"padding": S.Padding.VALID, "strideH": step[0], "strideW": step[1]}
    if grid is not None and grid.bits > 8:
        e.writer.operator("MAX_POOL_2D", [source], [target], options("Pool2D", filterHeight=1, filterWidth=1, **keys))
        return
    channels = out_shape[1]
    one, zero = np.ones((1, 1, 1, channels), np.float32), np.zeros(channels, np.float32)
    if grid is None:
        constants = [e.writer.constant("one", one), e.writer.constant("zero", zero)]
    else:
        unit_grid, bias_grid = per_tensor(1.0, 0, narrow=True), per_tensor(float(grid.scale), 0, 32)
        constants = [
            e.writer.constant("one", one.astype(np.int8), unit_grid),
            e.writer.constant("zero", zero.astype(np.int32), bias_grid),
        ]
    option = options("DepthwiseConv2D", depthMultiplier=1, dilationHFactor=1, dilationWFactor=1, **keys)
    e.writer.operator("DEPTHWISE_CONV_2D", [source, *constants], [target], option)


def split(e: Emitter, unit: Unit) -> None:
    """Split -> SPLIT, or SPLIT_V for unequal parts."""
    value = e.data(unit)
    grid = e.grid_for(unit, unit.outputs[0])
    permutation = e.axes(value, grid)
    axis = int(e.attributes(unit).get("axis", 0)) % len(permutation)
    source = e.read_permuted(value, grid, permutation, f"Split {unit.name!r}")
    targets = [e.make_permuted(result, e.grid_for(unit, result), permutation) for result in unit.outputs]
    sizes = [e.shape(result)[axis] for result in unit.outputs]
    stored_axis = e.indices("axis", permutation.index(axis))
    if len(set(sizes)) == 1:
        e.writer.operator_version(
            "SPLIT",
            2 if grid is not None else 1,
            [stored_axis, source],
            targets,
            options("Split", numSplits=len(sizes)),
        )
        return
    option = options("SplitV", numSplits=len(sizes))
    e.writer.operator("SPLIT_V", [source, e.indices("sizes", sizes), stored_axis], targets, option)


def gather(e: Emitter, unit: Unit) -> None:
    """Gather -> GATHER; a single constant index is a SLICE."""
    value, result = e.data(unit), unit.outputs[0]
    indices_name = e.argument(unit, 1)
    assert indices_name is not None
    grid = e.grid_for(unit, result)
    shape, out_shape = e.shape(value), e.shape(result)
    axis = int(e.attributes(unit).get("axis", 0)) % len(shape)
    indices = e.constant(indices_name)
    target_order = orders.natural(int(np.prod(out_shape)))
    if indices is not None and indices.ndim == 0:
        permutation = e.axes(value, grid)
        source = e.read_permuted(value, grid, permutation, f"Gather {unit.name!r}")
        kept = tuple(1 if a == axis else size for a, size in enumerate(shape))
        begin = [int(indices) % shape[axis] if a == axis else 0 for a in permutation]
        stored = tuple(kept[a] for a in permutation)
        target = e.make(result, grid, stored, orders.permuted(kept, permutation))
        arguments = [e.indices("begin", begin), e.indices("size", stored)]
        e.writer.operator("SLICE", [source, *arguments], [target], options("Slice"))
        return
    why = f"Gather {unit.name!r}"
    source = e.read(value, grid, shape, orders.natural(int(np.prod(shape))), why)
    if indices is not None:
        index = e.indices("indices", np.where(indices < 0, indices + shape[axis], indices))
    else:
        index_shape = e.shape(indices_name)
        index = e.read(indices_name, None, index_shape, orders.natural(int(np.prod(index_shape))), why)
    target = e.make(result, grid, out_shape, target_order)
    e.writer.operator("GATHER", [source, index], [target], options("Gather", axis=axis, batchDims=0))


def pad(e: Emitter, unit: Unit) -> None:
    """Pad -> PAD (zeros), PADV2 (another constant) or MIRROR_PAD (reflect)."""
    value, result = e.data(unit), unit.outputs[0]
    grid = e.grid_for(unit, result)
    shape = e.shape(value)
    attributes = e.attributes(unit)
    amounts, fill = _amounts(e, unit, len(shape))
    mode = attributes.get("mode", "constant")
    if amounts.min(initial=0) < 0:
        raise e.refuse(unit, "negative pads")
    permutation = e.axes(value, grid)
    source = e.read_permuted(value, grid, permutation, f"Pad {unit.name!r}")
    if mode in ("edge", "wrap"):
        _pad_by_index(e, unit, source, permutation, amounts, mode)
        return
    target = e.make_permuted(result, grid, permutation)
    pads = e.indices("pads", amounts[list(permutation)])
    if mode == "reflect":
        e.writer.operator("MIRROR_PAD", [source, pads], [target], options("MirrorPad", mode=S.MirrorPadMode.REFLECT))
    elif mode != "constant":
        raise e.refuse(unit, f"mode {mode!r}")
    elif fill == 0.0:
        e.writer.operator("PAD", [source, pads], [target], options("Pad"))
    else:
        number = np.array([fill], np.float32)
        data = number if grid is None else grid.quantize(number).astype(code_dtype(grid))
        tensor = e.writer.constant("fill", data, grid)
        e.writer.operator("PADV2", [source, pads, tensor], [target], options("PadV2"))


def _pad_by_index(
    e: Emitter, unit: Unit, source: int, permutation: Sequence[int], amounts: np.ndarray, mode: str
) -> None:
    """Repeat the border (edge) or the other side (wrap) by a GATHER along every padded axis."""
    result = unit.outputs[0]
    grid = e.grid_for(unit, result)
    axes = [axis for axis in range(len(permutation)) if amounts[permutation[axis]].any()]
    for axis in axes:
        shape = list(e.writer.shape(source))
        begin, end = amounts[permutation[axis]]
        positions = np.arange(-begin, shape[axis] + end)
        index = np.clip(positions, 0, shape[axis] - 1) if mode == "edge" else positions % shape[axis]
        shape[axis] = len(index)
        last = axis == axes[-1]
        target = (
            e.make_permuted(result, grid, permutation) if last else e.step(source, f"{result}::padded", shape, grid)
        )
        option = options("Gather", axis=axis, batchDims=0)
        e.writer.operator("GATHER", [source, e.indices("indices", index)], [target], option)
        source = target
    if not axes:
        e.define(result, e.any(e.data(unit), grid))


def _amounts(e: Emitter, unit: Unit, rank: int) -> tuple[np.ndarray, float]:
    """Pads as (rank, 2) in the graph's axes, and the number that fills them."""
    attributes = e.attributes(unit)
    if "pads" in attributes:
        return np.asarray(attributes["pads"]).reshape(2, rank).T, float(attributes.get("value", 0.0))
    given = e.static(unit, 1)
    assert given is not None
    axes = e.static(unit, 3)
    fill = e.static(unit, 2)
    pairs = given.reshape(2, -1).T
    amounts = np.zeros((rank, 2), dtype=np.int64)
    amounts[range(rank) if axes is None else axes.reshape(-1)] = pairs
    return amounts, 0.0 if fill is None or fill.size == 0 else float(fill.reshape(-1)[0])


def _moved(numbers: Sequence[int], permutation: Sequence[int]) -> list[int]:
    return [int(numbers[axis]) for axis in permutation]
