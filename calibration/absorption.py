"""Absorption of high biases: what a channel always has, the next layer can hold, and the range of the values shrinks.

With per-tensor grids the channel that reaches highest sets the step of all. Where it never comes near zero, as after a
large bias, a part c of it can move through the ReLU into the next layer's bias:

    b1 -= c,    b2 += W2 c,    for   ReLU(W1 x + b1 - c) = ReLU(W1 x + b1) - c   where   W1 x + b1 >= c

Steps, of a pair of layers whose second one reads nothing but the first:

1. Each channel's smallest and largest value before the ReLU, lo and hi, on the samples.
2. T = max_i (hi_i - max(lo_i, 0)), the least that the values can be brought to reach.
3. c_i = max(0, hi_i - T): no more than the range gains by. It never exceeds lo_i, so on the samples nothing changes.

Without a ReLU between the layers c can have any sign, it is exact for all inputs, and every channel is centred:
c_i = (lo_i + hi_i) / 2.

Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV
2019, section 4.1.3. What we changed: they have no samples, take c = max(0, beta - 3 gamma) of a batch normalization,
and so do not know T. Pairs without a ReLU are ours.

Not done: a second layer that pads, for it reads zeros and not c beyond the border; a channel that reaches the bound
of a ReLU6; a layer without a bias.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir
import torch

from edgeq.calibration.pairs import Array, Pair, array, bias, groups, inputs_first, pairs, reaches
from edgeq.graph.graph import Graph, name
from edgeq.plan.plan import Skeleton

#: A range is worth shrinking to this part and less.
WORTH = 0.9

Reach = tuple[Array, Array]


def absorbable(graph: Graph, skeleton: Skeleton) -> tuple[Pair, ...]:
    """The pairs between whose layers a constant can move, and whose value between is on a grid."""
    return tuple(
        pair
        for pair in pairs(graph, bounded=True)
        if _between(graph, pair) in skeleton.groups
        and not _pads(graph.node(pair.second))
        and all(bias(graph.node(layer)) is not None for layer in (pair.first, pair.second))
    )


def absorb(graph: Graph, skeleton: Skeleton, samples: Iterable[tuple[torch.Tensor, ...]]) -> Graph:
    """The same function on the samples with smaller values between layers; the graph itself if none can shrink.

    Args:
        graph: the model.
        skeleton: what is quantized.
        samples: inputs in the order of the graph's inputs, batch by batch.
    """
    chosen = absorbable(graph, skeleton)
    reached = reaches(graph, (pair.first for pair in chosen), samples)
    moved = {pair: c for pair in chosen if (c := constants(pair, reached[pair.first])).any()}
    return _moved(graph, moved) if moved else graph


def constants(pair: Pair, reach: Reach) -> Array:
    """What moves out of each channel of the pair's first layer; zeros where the range would not shrink by enough."""
    low, high = reach
    if not pair.between:
        before, after = max(float(high.max()), 0.0) - min(float(low.min()), 0.0), float((high - low).max())
        c = (low + high) / 2
    else:
        before = min(float(high.max()), pair.bound)
        after = float((high - np.where(high < pair.bound, np.maximum(low, 0.0), 0.0)).max())
        c = np.maximum(high - after, 0.0)
    return c if after <= WORTH * before else np.zeros_like(c)


def _moved(graph: Graph, constants_of: Mapping[Pair, Array]) -> Graph:
    result = graph.clone()
    for pair, c in constants_of.items():
        first, second = result.node(pair.first), result.node(pair.second)
        _set(bias(first), array(result, bias(first)) - c)
        _set(bias(second), array(result, bias(second)) + _read(second, array(result, second.inputs[1]), c))
    return Graph(result.model)


def _read(node: ir.Node, weight: Array, c: Array) -> Array:
    """What a layer makes of an input that is c everywhere, without its bias: (output channels,)."""
    into = inputs_first(node, weight)
    products = into * c.reshape(-1, *[1] * (into.ndim - 1))
    of_outputs = products if groups(node) > 1 else products.sum(0)
    return np.asarray(of_outputs.reshape(len(of_outputs), -1).sum(1))


def _set(value: ir.Value | None, numbers: Array) -> None:
    assert value is not None
    value.const_value = ir.tensor(numbers.astype(np.float32), name=value.name)


def _between(graph: Graph, pair: Pair) -> str:
    """The value that the second layer reads."""
    return name(graph.node(pair.between[-1] if pair.between else pair.first).outputs[0])


def _pads(node: ir.Node) -> bool:
    return node.op_type == "Conv" and (
        any(node.attributes.get_ints("pads", ())) or node.attributes.get_string("auto_pad", "NOTSET").startswith("SAME")
    )
