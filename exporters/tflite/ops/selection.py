"""Choosing elements by value or index: TopK, OneHot, Hardmax, CumSum, GatherND, ScatterND, ReverseSequence, Trilu."""

import numpy as np

from edgeq.exporters.tflite import order as orders
from edgeq.exporters.tflite.emitter import Emitter
from edgeq.exporters.tflite.schema import TENSOR_TYPES, options
from edgeq.plan.plan import Unit


def top_k(e: Emitter, unit: Unit) -> None:
    """TopK of the largest -> TOPK_V2 along the last stored axis; its int32 indices are widened."""
    node = e.graph.node(unit.name)
    attributes = e.attributes(unit)
    if not attributes.get("largest", 1):
        raise e.refuse(unit, "the smallest elements")
    value = e.data(unit)
    shape = e.shape(value)
    axis = int(attributes.get("axis", -1)) % len(shape)
    permutation = (*(a for a in range(len(shape)) if a != axis), axis)
    source = e.read_permuted(value, None, permutation, f"TopK {unit.name!r} reads its axis last")
    names = [output.name or "" for output in node.outputs]
    k = next(e.shape(name)[axis] for name in names if name)
    stored = (*(shape[a] for a in permutation[:-1]), k)
    kept = tuple(k if a == axis else size for a, size in enumerate(shape))
    order = orders.permuted(kept, permutation)
    unused = f"{unit.name}::values"
    values = e.make(names[0], None, stored, order) if names[0] else e.writer.tensor(unused, stored, "float32")
    narrow = e.writer.tensor(f"{unit.name}::indices", stored, "int32")
    e.writer.operator("TOPK_V2", [source, e.indices("k", np.array(k))], [values, narrow], options("TopKV2"))
    if len(names) > 1 and names[1]:
        types = {"inDataType": TENSOR_TYPES["int32"], "outDataType": TENSOR_TYPES["int64"]}
        e.writer.operator("CAST", [narrow], [e.make(names[1], None, stored, order)], options("Cast", **types))


def cumulative_sum(e: Emitter, unit: Unit) -> None:
    """CumSum -> CUMSUM."""
    value, result = e.data(unit), unit.outputs[0]
    axis = e.static(unit, 1)
    assert axis is not None
    permutation = e.axes(value, None)
    source = e.read_permuted(value, None, permutation, f"CumSum {unit.name!r}")
    stored = permutation.index(int(axis.reshape(-1)[0]) % len(permutation))
    attributes = e.attributes(unit)
    option = options(
        "Cumsum", exclusive=bool(attributes.get("exclusive", 0)), reverse=bool(attributes.get("reverse", 0))
    )
    target = e.make_permuted(result, None, permutation)
    e.writer.operator("CUMSUM", [source, e.indices("axis", np.array(stored))], [target], option)


def gather_nd(e: Emitter, unit: Unit) -> None:
    """GatherND -> GATHER_ND."""
    if int(e.attributes(unit).get("batch_dims", 0)):
        raise e.refuse(unit, "batch_dims")
    value, index_name, result = e.argument(unit, 0), e.argument(unit, 1), unit.outputs[0]
    assert value is not None
    assert index_name is not None
    shape, index_shape, out_shape = e.shape(value), e.shape(index_name), e.shape(result)
    why = f"GatherND {unit.name!r} counts its axes in the graph's order"
    source = e.read(value, None, shape, orders.natural(int(np.prod(shape))), why)
    constant = e.constant(index_name)
    if constant is not None:
        sizes = np.array(shape[: constant.shape[-1]])
        index = e.indices("indices", np.where(constant < 0, constant + sizes, constant))
    else:
        index = e.read(index_name, None, index_shape, orders.natural(int(np.prod(index_shape))), why)
    target = e.make(result, None, out_shape, orders.natural(int(np.prod(out_shape))))
    e.writer.operator("GATHER_ND", [source, index], [target], options("GatherNd"))


def gather_elements(e: Emitter, unit: Unit) -> None:
    """GatherElements with constant indices -> GATHER_ND with all coordinates."""
    value, result = e.data(unit), unit.outputs[0]
    chosen = e.static(unit, 1)
    assert chosen is not None
    shape, out_shape = e.shape(value), e.shape(result)
    axis = int(e.attributes(unit).get("axis", 0)) % len(shape)
    coordinates = np.indices(out_shape)
    coordinates[axis] = np.where(chosen < 0, chosen + shape[axis], chosen)
    why = f"GatherElements {unit.name!r} counts its axes in the graph's order"
    source = e.read(value, None, shape, orders.natural(int(np.prod(shape))), why)
    target = e.make(result, None, out_shape, orders.natural(int(np.prod(out_shape))))
    indices = e.indices("indices", np.moveaxis(coordinates, 0, -1))
    e.writer.operator("GATHER_ND", [source, indices], [target], options("GatherNd"))


def scatter_nd(e: Emitter, unit: Unit) -> None:
    """ScatterND with constant indices, each at most once -> SCATTER_ND into zeros, and a choice by a constant mask."""
    value, updates, result = e.data(unit), e.argument(unit, 2), unit.outputs[0]
    chosen = e.static(unit, 1)
    assert chosen is not None
    assert updates is not None
    if e.attributes(unit).get("reduction", "none") != "none":
        raise e.refuse(unit, "a reduction")
    shape, update_shape = e.shape(value), e.shape(updates)
    depth = chosen.shape[-1]
    chosen = np.where(chosen < 0, chosen + np.array(shape[:depth]), chosen)
    if len(np.unique(chosen.reshape(-1, depth), axis=0)) != chosen.size // depth:
        raise e.refuse(unit, "an element that is written twice")
    mask = np.zeros(shape, bool)
    mask[tuple(np.moveaxis(chosen, -1, 0))] = True
    why = f"ScatterND {unit.name!r} counts its axes in the graph's order"
    order = orders.natural(int(np.prod(shape)))
    source = e.read(value, None, shape, order, why)
    written = e.read(updates, None, update_shape, orders.natural(int(np.prod(update_shape))), why)
    spread = e.step(source, f"{result}::scattered", shape, None)
    inputs = [e.indices("indices", chosen), written, e.indices("shape", shape)]
    e.writer.operator_version("SCATTER_ND", 1, inputs, [spread], options("ScatterNd"))
    target = e.make(result, None, shape, order)
    e.writer.operator("SELECT_V2", [e.writer.constant("mask", mask), spread, source], [target], options("SelectV2"))


def reverse_sequence(e: Emitter, unit: Unit) -> None:
    """ReverseSequence -> REVERSE_SEQUENCE."""
    value, lengths, result = e.data(unit), e.argument(unit, 1), unit.outputs[0]
    assert lengths is not None
    attributes = e.attributes(unit)
    time, batch = int(attributes.get("time_axis", 0)), int(attributes.get("batch_axis", 1))
    shape = e.shape(value)
    order = orders.natural(int(np.prod(shape)))
    why = f"ReverseSequence {unit.name!r} counts its axes in the graph's order"
    source = e.read(value, None, shape, order, why)
    length_shape = e.shape(lengths)
    count = e.read(lengths, None, length_shape, orders.natural(int(np.prod(length_shape))), why)
    option = options("ReverseSequence", seqDim=time, batchDim=batch)
    e.writer.operator("REVERSE_SEQUENCE", [source, count], [e.make(result, None, shape, order)], option)


def hard_max(e: Emitter, unit: Unit) -> None:
    """Hardmax -> ARG_MAX and ONE_HOT along the last stored axis."""
    value, result = e.data(unit), unit.outputs[0]
    shape = e.shape(value)
    if e.graph.opset < 13:
        raise e.refuse(unit, "the form before opset 13, which takes several axes as one")
    axis = int(e.attributes(unit).get("axis", -1)) % len(shape)
    permutation = (*(a for a in range(len(shape)) if a != axis), axis)
    source = e.read_permuted(value, None, permutation, f"Hardmax {unit.name!r} reads its axis last")
    stored = tuple(shape[a] for a in permutation)
    place = e.writer.tensor(f"{result}::place", stored[:-1], "int64")
    option = options("ArgMax", outputType=TENSOR_TYPES["int64"])
    e.writer.operator("ARG_MAX", [source, e.indices("axis", np.array(len(shape) - 1))], [place], option)
    on, off = (e.writer.constant("number", np.array(number, np.float32)) for number in (1, 0))
    inputs = [place, e.indices("depth", np.array(shape[axis])), on, off]
    e.writer.operator("ONE_HOT", inputs, [e.make_permuted(result, None, permutation)], options("OneHot", axis=-1))


def triangle(e: Emitter, unit: Unit) -> None:
    """Trilu -> SELECT_V2 by a constant mask."""
    value, result = e.data(unit), unit.outputs[0]
    offset = e.static(unit, 1)
    k = 0 if offset is None else int(offset.reshape(-1)[0])
    shape = e.shape(value)
    ones = np.ones(shape[-2:], bool)
    mask = np.triu(ones, k) if e.attributes(unit).get("upper", 1) else np.tril(ones, k)
    source = e.read_permuted(value, None, tuple(range(len(shape))), f"Trilu {unit.name!r}")
    zero = e.writer.constant("zero", np.zeros(1, e.writer.dtype(source)))
    tensors = [e.writer.constant("mask", mask.reshape((1,) * (len(shape) - 2) + mask.shape)), source, zero]
    target = e.make_permuted(result, None, tuple(range(len(shape))))
    e.writer.operator("SELECT_V2", tensors, [target], options("SelectV2"))


def one_hot(e: Emitter, unit: Unit) -> None:
    """OneHot -> ONE_HOT."""
    index_name, result = e.argument(unit, 0), unit.outputs[0]
    depth, numbers = e.static(unit, 1), e.static(unit, 2)
    assert index_name is not None
    assert depth is not None
    assert numbers is not None
    shape = e.shape(index_name)
    axis = int(e.attributes(unit).get("axis", -1))
    source = e.read(index_name, None, shape, orders.natural(int(np.prod(shape))), f"OneHot {unit.name!r}")
    if e.writer.dtype(source) not in ("int32", "int64"):
        raise e.refuse(unit, "indices that are not integers")
    off, on = (e.writer.constant("number", numbers[i].reshape(())) for i in (0, 1))
    out_shape = e.shape(result)
    target = e.make(result, None, out_shape, orders.natural(int(np.prod(out_shape))))
    size = e.indices("depth", np.array(int(depth.reshape(-1)[0])))
    rank = len(out_shape)
    option = options("OneHot", axis=-1 if axis % rank == rank - 1 else axis % rank)
    e.writer.operator("ONE_HOT", [source, size, on, off], [target], option)
