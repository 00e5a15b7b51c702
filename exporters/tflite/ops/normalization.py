"""Normalizations in float: moments over stored axes, then scale and shift.

y = (x - mean(x)) * rsqrt(var(x) + eps) * scale + bias
"""

from collections.abc import Sequence
from math import prod

import numpy as np

from edgeq.exporters.tflite import order as orders
from edgeq.exporters.tflite.emitter import Array, Emitter
from edgeq.exporters.tflite.ops.composed import Composer
from edgeq.exporters.tflite.schema import options
from edgeq.graph.layout import channels_last
from edgeq.plan.plan import Unit


def _standardized(c: Composer, source: int, axes: Sequence[int], epsilon: float, *, centre: bool = True) -> int:
    deviation = c.op("SUB", source, c.reduce("MEAN", source, axes)) if centre else source
    variance = c.reduce("MEAN", c.op("MUL", deviation, deviation), axes)
    return c.op("MUL", deviation, c.op("RSQRT", c.op("ADD", variance, c.number(epsilon))))


def _scaled(c: Composer, x: int, scale: Array | None, bias: Array | None, order: orders.Order) -> None:
    """Multiply and add constants that broadcast against the stored tensor, and define the output."""
    if scale is None and bias is None:
        scale = np.ones(1, np.float32)
    if bias is None:
        assert scale is not None
        c.finish("MUL", x, c.array(scale), order=order)
        return
    if scale is not None:
        x = c.op("MUL", x, c.array(scale))
    c.finish("ADD", x, c.array(bias), order=order)


def layer(e: Emitter, unit: Unit) -> None:
    """LayerNormalization, RMSNormalization, SimplifiedLayerNormalization over the axes from ``axis`` on."""
    if len(unit.outputs) > 1:
        raise e.refuse(unit, "its mean and deviation are asked for as outputs")
    value = e.data(unit)
    shape = e.shape(value)
    rank = len(shape)
    first = int(e.attributes(unit).get("axis", -1)) % rank
    permutation = e.axes(value, None)
    source = e.read_permuted(value, None, permutation, f"{unit.op} {unit.name!r}")
    axes = [permutation.index(axis) for axis in range(first, rank)]
    c = Composer(e, unit)
    epsilon = float(e.attributes(unit).get("epsilon", 1e-5))
    x = _standardized(c, source, axes, epsilon, centre=unit.op == "LayerNormalization")
    constants = [
        None if (array := e.static(unit, position)) is None else _turned(array, rank, permutation)
        for position in (1, 2)
    ]
    _scaled(c, x, constants[0], constants[1], orders.permuted(shape, permutation))


def _turned(array: Array, rank: int, permutation: Sequence[int]) -> Array:
    return array.reshape((1,) * (rank - array.ndim) + array.shape).transpose(permutation)


def instance(e: Emitter, unit: Unit) -> None:
    """InstanceNormalization: over the spatial axes of every channel."""
    value = e.data(unit)
    shape = e.shape(value)
    permutation = e.axes(value, None)
    source = e.read_permuted(value, None, permutation, f"{unit.op} {unit.name!r}")
    c = Composer(e, unit)
    axes = [permutation.index(axis) for axis in range(2, len(shape))]
    x = _standardized(c, source, axes, float(e.attributes(unit).get("epsilon", 1e-5)))
    scale, bias = (_by_channel(e, unit, position, len(shape), permutation) for position in (1, 2))
    _scaled(c, x, scale, bias, orders.permuted(shape, permutation))


def _by_channel(e: Emitter, unit: Unit, position: int, rank: int, permutation: Sequence[int]) -> Array:
    array = e.static(unit, position)
    assert array is not None
    return array.reshape(1, -1, *(1,) * (rank - 2)).transpose(permutation)


def grouped(e: Emitter, unit: Unit) -> None:
    """GroupNormalization: over the pixels and the channels of a group, stored as (N, pixels, groups, channels)."""
    value = e.data(unit)
    shape = e.shape(value)
    groups = int(e.attributes(unit)["num_groups"])
    view = (shape[0], prod(shape[2:]), groups, shape[1] // groups)
    order = orders.permuted(shape, channels_last(len(shape)))
    source = e.read(value, None, view, order, f"{unit.op} {unit.name!r} reads it channels last")
    c = Composer(e, unit)
    x = _standardized(c, source, (1, 3), float(e.attributes(unit).get("epsilon", 1e-5)))
    constants = []
    for position in (1, 2):
        array = e.static(unit, position)
        assert array is not None
        # Before opset 21 there is a scale for every group, then for every channel.
        by_group = array.size == groups and groups != shape[1]
        constants.append(array.reshape((1, 1, groups, 1) if by_group else (1, 1, groups, shape[1] // groups)))
    _scaled(c, x, constants[0], constants[1], order)


def batch(e: Emitter, unit: Unit) -> None:
    """BatchNormalization that no convolution could take along: a scale and a shift of every channel."""
    value = e.data(unit)
    shape = e.shape(value)
    arrays = [e.static(unit, position) for position in range(1, 5)]
    gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in arrays)
    factor = gamma / np.sqrt(variance + float(e.attributes(unit).get("epsilon", 1e-5)))
    permutation = e.axes(value, None)
    source = e.read_permuted(value, None, permutation, f"{unit.op} {unit.name!r}")
    rank = len(shape)
    scale, shift = (
        part.reshape(1, -1, *(1,) * (rank - 2)).transpose(permutation) for part in (factor, beta - mean * factor)
    )
    _scaled(Composer(e, unit), source, scale, shift, orders.permuted(shape, permutation))


def length(e: Emitter, unit: Unit) -> None:
    """LpNormalization: x divided by its L1 or L2 norm along an axis."""
    value = e.data(unit)
    shape = e.shape(value)
    axis = int(e.attributes(unit).get("axis", -1)) % len(shape)
    permutation = e.axes(value, None)
    source = e.read_permuted(value, None, permutation, f"{unit.op} {unit.name!r}")
    c = Composer(e, unit)
    stored = [permutation.index(axis)]
    if int(e.attributes(unit).get("p", 2)) == 1:
        norm = c.reduce("SUM", c.op("ABS", source), stored)
    else:
        norm = c.op("SQRT", c.reduce("SUM", c.op("MUL", source, source), stored))
    c.finish("DIV", source, norm, order=orders.permuted(shape, permutation))


def local_response(e: Emitter, unit: Unit) -> None:
    """LRN: x / (bias + alpha / size * sum of squares of neighbouring channels) ^ beta.

    TFLite's own op is not used: its reference kernel leaves the last neighbour out. The sum is a 1x1 convolution with
    a band of ones.
    """
    value = e.data(unit)
    shape, attributes = e.shape(value), e.attributes(unit)
    if len(shape) != 4:
        raise e.refuse(unit, "a rank other than 4")
    size, channels = int(attributes["size"]), shape[1]
    last = channels_last(4)
    source = e.read_permuted(value, None, last, f"LRN {unit.name!r} reads it channels last")
    c = Composer(e, unit)
    distance = np.arange(channels)[None, :] - np.arange(channels)[:, None]
    band = (distance >= -((size - 1) // 2)) & (distance <= size // 2)
    kernel = c.array(band.astype(np.float32)[:, None, None, :] * (float(attributes.get("alpha", 1e-4)) / size))
    bias = c.array(np.full(channels, float(attributes.get("bias", 1.0))))
    total = e.writer.tensor(f"{unit.outputs[0]}::step", e.writer.shape(source), "float32")
    option = options("Conv2D", strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
    e.writer.operator("CONV_2D", [c.op("MUL", source, source), kernel, bias], [total], option)
    power = c.op("POW", total, c.number(float(attributes.get("beta", 0.75))))
    c.finish("DIV", source, power, order=orders.permuted(shape, last))
