"""Gemm and MatMul: FULLY_CONNECTED with constant weights, BATCH_MATMUL between two activations."""

import numpy as np

from edgeq.exporters.tflite import order as orders
from edgeq.exporters.tflite.emitter import Array, Emitter
from edgeq.exporters.tflite.ops import fused
from edgeq.exporters.tflite.ops.composed import Composer
from edgeq.exporters.tflite.ops.weights import weights_of
from edgeq.exporters.tflite.order import Order
from edgeq.exporters.tflite.schema import options
from edgeq.plan.plan import Unit


def dense(e: Emitter, unit: Unit) -> None:
    """Gemm or MatMul with a constant weight -> FULLY_CONNECTED."""
    value, result = e.data(unit), unit.outputs[0]
    grid = e.grid_for(unit, value)
    weights = weights_of(e, unit)
    matrix = weights.array
    if unit.op == "MatMul" or not e.attributes(unit).get("transB", 0):
        matrix = matrix.T
    shape, out_shape = e.shape(value), e.shape(result)
    form = e.any(value, grid)
    order = form.order
    columns = column_order(order, shape[-1])
    if columns is not None and weights.grid is not None and weights.grid.block and (np.diff(columns) != 1).any():
        columns = None  # neighbours in a block stay neighbours
    if columns is None:
        order = orders.natural(int(np.prod(shape)))
    else:
        matrix = matrix[:, columns]
    source = e.read(value, grid, shape, order, f"{unit.op} {unit.name!r} reads its rows in order")
    inputs = [source, weights.write_matrix(e, matrix), weights.write_bias(e)]
    option = options("FullyConnected", keepNumDims=len(out_shape) > 2)
    natural = orders.natural(int(np.prod(out_shape)))
    fused.emit(e, unit, "FULLY_CONNECTED", inputs, out_shape, natural, option, weights.hybrid_version(e))


def column_order(order: Order, length: int) -> Array | None:
    """How the columns of the weight must be permuted so that a vector stored in that order meets them.

    The flatten step between convolutions and a dense layer so costs nothing. None if rows and columns are interleaved.
    """
    atoms = orders.refine(order, frozenset({length}))
    if atoms is None:
        return None
    inner = [(size, stride) for size, stride in atoms if stride < length]
    outer = atoms[: len(atoms) - len(inner)]
    if any(stride < length for _, stride in outer):
        return None
    if list(outer) != sorted(outer, key=lambda atom: -atom[1]):
        return None
    index = np.zeros(1, dtype=np.int64)
    for size, stride in inner:
        index = (index[:, None] + np.arange(size) * stride).reshape(-1)
    return index


def gemm(e: Emitter, unit: Unit) -> None:
    """Gemm: FULLY_CONNECTED if its weight is constant and plain, else BATCH_MATMUL with alpha, beta and C behind it."""
    if unit.weight is not None:
        dense(e, unit)
        return
    _general_gemm(e, unit)


def _general_gemm(e: Emitter, unit: Unit) -> None:
    """alpha A' B' + beta C in float."""
    attributes, result = e.attributes(unit), unit.outputs[0]
    if unit.integer:
        raise e.refuse(unit, "alpha, beta, transA or computed weights have no integer form")
    tensors = []
    for position, flag in ((0, "transA"), (1, "transB")):
        value = e.argument(unit, position)
        assert value is not None
        permutation = (1, 0) if attributes.get(flag, 0) else (0, 1)
        tensors.append(e.read_permuted(value, None, permutation, f"Gemm {unit.name!r}"))
    shape = e.shape(result)
    order = orders.natural(int(np.prod(shape)))
    c = Composer(e, unit)
    product = e.writer.tensor(f"{result}::product", shape, "float32")
    e.writer.operator("BATCH_MATMUL", tensors, [product], options("BatchMatMul", adjX=False, adjY=False))
    scaled = c.op("MUL", product, c.number(float(attributes.get("alpha", 1.0))))
    added = e.argument(unit, 2)
    if added is None:
        c.finish("MUL", scaled, c.number(1.0), order=order)
        return
    padded = (1,) * (2 - len(e.shape(added))) + e.shape(added)
    bias = e.read_permuted(added, None, (0, 1), f"Gemm {unit.name!r}", padded)
    c.finish("ADD", scaled, c.op("MUL", bias, c.number(float(attributes.get("beta", 1.0)))), order=order)


def matmul(e: Emitter, unit: Unit) -> None:
    """MatMul: FULLY_CONNECTED for a constant matrix, else BATCH_MATMUL."""
    if unit.weight is not None:
        dense(e, unit)
        return
    left, right = (name for name in (e.argument(unit, 0), e.argument(unit, 1)) if name is not None)
    result = unit.outputs[0]
    tensors, shapes, flips = [], [], []
    for value in (left, right):
        grid = e.grid_for(unit, value)
        shape = e.shape(value)
        if len(shape) == 1:
            raise e.refuse(unit, "a vector operand")
        # A matrix that is at hand transposed is read so: adjX, adjY.
        identity = tuple(range(len(shape)))
        swapped = (*identity[:-2], identity[-1], identity[-2])
        flip = e.known(value) and e.any(value, grid).order == orders.permuted(shape, swapped) != orders.natural(
            int(np.prod(shape))
        )
        permutation = swapped if flip else identity
        tensors.append(e.read_permuted(value, grid, permutation, f"MatMul {unit.name!r} multiplies its last axes"))
        shapes.append(shape)
        flips.append(flip)
    out_shape = e.shape(result)
    rank = max(len(shape) for shape in shapes)
    if rank < 2:
        raise e.refuse(unit, "vector operands")
    option = options("BatchMatMul", adjX=flips[0], adjY=flips[1], asymmetricQuantizeInputs=False)
    with e.made(result, e.grid_for(unit, result), out_shape, orders.natural(int(np.prod(out_shape)))) as target:
        e.writer.operator("BATCH_MATMUL", tensors, [target], option)


__all__ = ["column_order", "dense", "gemm", "matmul"]
