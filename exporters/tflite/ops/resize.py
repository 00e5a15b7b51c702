"""Resize, Upsample: TFLite's bilinear and nearest where they sample the same points, GATHER for other nearest maps."""

from collections.abc import Callable
from math import ceil, floor

import numpy as np

from edgeq.exporters.tflite.emitter import Array, Emitter
from edgeq.exporters.tflite.schema import options
from edgeq.graph.layout import channels_last
from edgeq.plan.plan import Unit

#: ONNX nearest_mode -> rounding of a source coordinate.
_ROUNDINGS: dict[str, Callable[[float], int]] = {
    "round_prefer_floor": lambda x: ceil(x - 0.5),
    "round_prefer_ceil": lambda x: floor(x + 0.5),
    "floor": floor,
    "ceil": ceil,
}


def resize(e: Emitter, unit: Unit) -> None:
    """Resize of H and W -> RESIZE_BILINEAR, RESIZE_NEAREST_NEIGHBOR or GATHER."""
    value, result = e.data(unit), unit.outputs[0]
    shape, out_shape = e.shape(value), e.shape(result)
    mode = e.attributes(unit).get("mode", "nearest")
    if len(shape) != 4 or shape[:2] != out_shape[:2]:
        raise e.refuse(unit, "it resizes other axes than H and W of a rank-4 tensor")
    if mode == "nearest":
        _nearest(e, unit)
    elif mode == "linear":
        _linear(e, unit)
    else:
        raise e.refuse(unit, f"mode {mode!r}")


def coordinates(e: Emitter, unit: Unit, axis: int) -> Array:
    """Where along the input each output element lies, as the ONNX standard defines it."""
    attributes = e.attributes(unit)
    size, out = e.shape(e.data(unit))[axis], e.shape(unit.outputs[0])[axis]
    scale = _scale(e, unit, axis, size, out)
    x = np.arange(out, dtype=np.float64)
    default = "asymmetric" if unit.op == "Upsample" or e.graph.opset < 11 else "half_pixel"
    kind = attributes.get("coordinate_transformation_mode", default)
    if kind == "half_pixel":
        return (x + 0.5) / scale - 0.5
    if kind == "pytorch_half_pixel":
        return (x + 0.5) / scale - 0.5 if out > 1 else np.zeros(1)
    if kind == "align_corners":
        return x * (size - 1) / (out - 1) if out > 1 else np.zeros(out)
    if kind == "asymmetric":
        return x / scale
    raise e.refuse(unit, f"coordinate_transformation_mode {kind!r}")


def _scale(e: Emitter, unit: Unit, axis: int, size: int, out: int) -> float:
    position = 1 if unit.op == "Upsample" or e.graph.opset < 11 else 2
    scales = e.static(unit, position)
    if "scales" in e.attributes(unit):
        scales = np.asarray(e.attributes(unit)["scales"])
    return float(scales[axis]) if scales is not None and scales.size else out / size


def _linear(e: Emitter, unit: Unit) -> None:
    wanted = [np.clip(coordinates(e, unit, axis), 0, e.shape(e.data(unit))[axis] - 1) for axis in (2, 3)]
    for align, half in ((False, True), (True, False), (False, False)):
        offered = [_tflite_linear(e, unit, axis, align, half) for axis in (2, 3)]
        # The kernels compute coordinates in float32; a sixteenth of a permille of a pixel cannot be seen in 8 bits.
        if all(np.allclose(a, b, rtol=0, atol=6e-5) for a, b in zip(wanted, offered, strict=True)):
            _write(e, unit, "RESIZE_BILINEAR", "ResizeBilinear", align, half)
            return
    raise e.refuse(unit, "RESIZE_BILINEAR samples other points than its scales ask for")


def _tflite_linear(e: Emitter, unit: Unit, axis: int, align: bool, half: bool) -> Array:
    size, out = e.shape(e.data(unit))[axis], e.shape(unit.outputs[0])[axis]
    x = np.arange(out, dtype=np.float64)
    scale = (size - 1) / (out - 1) if align and out > 1 else size / out
    return np.clip((x + 0.5) * scale - 0.5 if half else x * scale, 0, size - 1)


def _nearest(e: Emitter, unit: Unit) -> None:
    rounding = _ROUNDINGS[
        "floor" if unit.op == "Upsample" or e.graph.opset < 11
        else e.attributes(unit).get("nearest_mode", "round_prefer_floor")
    ]  # fmt: skip
    indices = []
    for axis in (2, 3):
        last = e.shape(e.data(unit))[axis] - 1
        indices.append([min(max(rounding(float(x)), 0), last) for x in coordinates(e, unit, axis)])
    for align, half in ((False, False), (False, True), (True, False)):
        if all(_tflite_nearest(e, unit, axis, align, half) == indices[axis - 2] for axis in (2, 3)):
            _write(e, unit, "RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighbor", align, half)
            return
    _gather(e, unit, indices)


def _tflite_nearest(e: Emitter, unit: Unit, axis: int, align: bool, half: bool) -> list[int]:
    size, out = e.shape(e.data(unit))[axis], e.shape(unit.outputs[0])[axis]
    scale = np.float32((size - 1) / (out - 1) if align and out > 1 else size / out)
    result = []
    for x in range(out):
        source = (np.float32(x) + np.float32(0.5 if half else 0.0)) * scale
        index = floor(float(source) + 0.5) if align else floor(float(source))
        result.append(min(max(index, 0), size - 1))
    return result


def _write(e: Emitter, unit: Unit, code: str, kind: str, align: bool, half: bool) -> None:
    value, result = e.data(unit), unit.outputs[0]
    grid = e.grid_for(unit, result)
    last = channels_last(4)
    source = e.read_permuted(value, grid, last, f"{unit.op} {unit.name!r} reads it channels last")
    target = e.make_permuted(result, grid, last)
    size = e.indices("size", e.shape(result)[2:])
    e.writer.operator(code, [source, size], [target], options(kind, alignCorners=align, halfPixelCenters=half))


def _gather(e: Emitter, unit: Unit, indices: list[list[int]]) -> None:
    value, result = e.data(unit), unit.outputs[0]
    grid = e.grid_for(unit, result)
    shape, out_shape = e.shape(value), e.shape(result)
    permutation = e.axes(value, grid)
    source = e.read_permuted(value, grid, permutation, f"{unit.op} {unit.name!r}")
    middle_shape = (*shape[:2], out_shape[2], shape[3])
    middle = e.step(source, f"{result}::rows", [middle_shape[axis] for axis in permutation], grid)
    rows, columns = (options("Gather", axis=permutation.index(axis), batchDims=0) for axis in (2, 3))
    e.writer.operator("GATHER", [source, e.indices("rows", indices[0])], [middle], rows)
    target = e.make_permuted(result, grid, permutation)
    e.writer.operator("GATHER", [middle, e.indices("columns", indices[1])], [target], columns)
