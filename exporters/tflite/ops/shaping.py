"""Ops that only rename or move elements: free until some other op needs the new order."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgeq.exporters.tflite import order as orders
from edgeq.exporters.tflite.emitter import Emitter, Stored
from edgeq.exporters.tflite.schema import options
from edgeq.graph.layout import channels_last
from edgeq.plan.plan import Unit


def _source(e: Emitter, unit: Unit) -> Stored:
    value = e.data(unit)
    return e.any(value, e.grid_for(unit, unit.outputs[0]))


def reshape(e: Emitter, unit: Unit) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: no element moves."""
    e.define(unit.outputs[0], _source(e, unit))


def transpose(e: Emitter, unit: Unit) -> None:
    """Transpose: the same bytes under permuted axes."""
    form = _source(e, unit)
    value = e.data(unit)
    shape = e.shape(value)
    permutation = e.attributes(unit).get("perm") or tuple(reversed(range(len(shape))))
    order = orders.transpose(form.order, shape, permutation)
    if order is None:
        tensor = e.read(value, form.grid, shape, orders.natural(int(np.prod(shape))), f"Transpose {unit.name!r}")
        form = Stored(tensor, shape, orders.natural(int(np.prod(shape))), form.grid)
        order = orders.permuted(shape, permutation)
    e.define(unit.outputs[0], replace(form, order=order))


def identity(e: Emitter, unit: Unit) -> None:
    """Identity, Dropout: nothing, or a requantization if the plan gives another grid."""
    value = e.data(unit)
    e.define(unit.outputs[0], e.any(value, e.grid_for(unit, unit.outputs[0])))


def concat(e: Emitter, unit: Unit) -> None:
    """Concat -> CONCATENATION along the axis, wherever it is stored."""
    result = unit.outputs[0]
    grid = e.grid_for(unit, result)
    values = [value.name for value in e.graph.node(unit.name).inputs if value is not None and value.name]
    computed = [value for value in values if e.constant(value) is None] or values
    leader = max(computed, key=lambda value: int(np.prod(e.shape(value))))
    permutation = e.axes(leader, grid)
    axis = int(e.attributes(unit)["axis"]) % len(permutation)
    why = f"Concat {unit.name!r} joins its operands in one order"
    tensors = [e.read_permuted(value, grid, permutation, why) for value in values if 0 not in e.shape(value)]
    if len(tensors) == 1:
        e.define(result, e.any(next(v for v in values if 0 not in e.shape(v)), grid))
        return
    target = e.make_permuted(result, grid, permutation)
    e.writer.operator("CONCATENATION", tensors, [target], options("Concatenation", axis=permutation.index(axis)))


def depth_to_space(e: Emitter, unit: Unit) -> None:
    """DepthToSpace -> DEPTH_TO_SPACE, whose depth is ordered as ONNX's DCR mode; SpaceToDepth likewise."""
    value, result = e.data(unit), unit.outputs[0]
    grid = e.grid_for(unit, result)
    block = int(e.attributes(unit)["blocksize"])
    last = channels_last(4)
    why = f"{unit.op} {unit.name!r} reads it channels last"
    crd = e.attributes(unit).get("mode", "DCR") == "CRD"
    if (unit.op == "DepthToSpace" and crd) or (grid is not None and grid.bits == 16):
        _blocks_by_transpose(e, unit, block, crd=crd)
        return
    source = e.read_permuted(value, grid, last, why)
    kind = "DepthToSpace" if unit.op == "DepthToSpace" else "SpaceToDepth"
    code = "DEPTH_TO_SPACE" if unit.op == "DepthToSpace" else "SPACE_TO_DEPTH"
    e.writer.operator(code, [source], [e.make_permuted(result, grid, last)], options(kind, blockSize=block))


def _blocks_by_transpose(e: Emitter, unit: Unit, block: int, *, crd: bool) -> None:
    """What DEPTH_TO_SPACE does not do, as one transpose of atoms: PyTorch's pixel shuffle, and 16-bit codes."""
    value, result = e.data(unit), unit.outputs[0]
    grid = e.grid_for(unit, result)
    n, depth, height, width = e.shape(value)
    view: tuple[int, ...]
    if unit.op == "SpaceToDepth":
        # N, C, (H b), (W b) -> N, (b b C), H, W
        view, permutation = (n, depth, height // block, block, width // block, block), (0, 3, 5, 1, 2, 4)
    elif crd:
        # N, (C b b), H, W -> N, C, (H b), (W b)
        view, permutation = (n, depth // block**2, block, block, height, width), (0, 1, 4, 2, 5, 3)
    else:
        # N, (b b C), H, W -> N, C, (H b), (W b)
        view, permutation = (n, block, block, depth // block**2, height, width), (0, 3, 4, 1, 5, 2)
    form = e.any(value, grid)
    order = orders.transpose(form.order, view, permutation)
    if order is None:
        raise e.refuse(unit, "its input is stored in an order that its blocks cannot follow")
    e.define(result, replace(form, order=order))


def expand(e: Emitter, unit: Unit) -> None:
    """Expand -> BROADCAST_TO; Tile -> TILE."""
    value, result = e.data(unit), unit.outputs[0]
    grid = e.grid_for(unit, result)
    shape, out_shape = e.shape(value), e.shape(result)
    rank = len(out_shape)
    padded = (1,) * (rank - len(shape)) + shape
    base = e.axes(value, grid)
    permutation = (*range(rank - len(base)), *(axis + rank - len(base) for axis in base))
    source = e.read_permuted(value, grid, permutation, f"{unit.op} {unit.name!r}", padded)
    repeats = [out // size for out, size in zip(out_shape, padded, strict=True)]
    if all(repeat == 1 for repeat in repeats):
        stored = tuple(padded[axis] for axis in permutation)
        e.define(result, Stored(source, stored, orders.permuted(padded, permutation), grid))
        return
    target = e.make_permuted(result, grid, permutation)
    e.writer.operator("TILE", [source, e.indices("repeats", _moved(repeats, permutation))], [target], options("Tile"))


def _moved(numbers: Sequence[int], permutation: Sequence[int]) -> list[int]:
    return [numbers[axis] for axis in permutation]
