"""Cross-layer equalization: move scale between neighbouring layers so that their channels need one grid alike.

For a channel i between layers 1 and 2 with a positively homogeneous function between them (none, or ReLU), with r1_i,
r2_i the largest weights of that channel:

    s_i = sqrt(r1_i / r2_i),    W1_i /= s_i,   b1_i /= s_i,   W2_i *= s_i

which gives both sqrt(r1_i r2_i). Repeated over all pairs until nothing moves, since layers of a depthwise chain are
second of one pair and first of the next. The float function stays the same.

A ReLU6 is homogeneous only below its bound. A channel that reaches the bound on the samples stays as it is; one that
does not may grow until it nearly would, so that the function on the samples stays the same. That needs each channel's
largest value (:func:`highest`); without it a pair with a bound is refused.

Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV
2019. What we changed: they replace a ReLU6 by a ReLU; no channel is moved by more than ``LIMIT``. It serves per-tensor
weights, and the activations' per-tensor grids; with per-channel weights the first layer's scales take up s by
themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from edgeq.graph.execute import iterate_values, to_torch
from edgeq.graph.graph import Graph, name

#: The largest factor by which a channel is moved.
LIMIT = 1e3
SWEEPS = 20
#: Up to this part of its bound a channel may come.
NEARLY = 0.9

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """Two layers between which scale can move: node names, what lies between them, and its upper bound."""

    first: str
    second: str
    between: tuple[str, ...]
    bound: float = np.inf


def pairs(graph: Graph, *, bounded: bool = False) -> tuple[Pair, ...]:
    """All pairs in order: Conv (also depthwise) or Gemm, ReLU or nothing, Conv or Gemm; nobody else reads between.

    Args:
        graph: the model.
        bounded: also those with a ReLU6 (a Clip from 0) between them.
    """
    found = []
    for node in graph.nodes:
        if not _is_layer(graph, node):
            continue
        between: list[str] = []
        bound = np.inf
        follower = _only_reader(node)
        while follower is not None and (own := _upper_bound(graph, follower)) is not None:
            between.append(name(follower))
            bound = min(bound, own)
            follower = _only_reader(follower)
        if bound < np.inf and not bounded:
            continue
        if follower is not None and _is_layer(graph, follower) and _fits(graph, node, follower):
            found.append(Pair(name(node), name(follower), tuple(between), bound))
    return tuple(found)


def highest(graph: Graph, samples: Sequence[tuple[torch.Tensor, ...]]) -> dict[str, Array]:
    """First layer of each pair with a bound -> the largest value of each of its channels on the samples."""
    wanted = {
        name(graph.node(pair.first).outputs[0]): pair.first
        for pair in pairs(graph, bounded=True)
        if pair.bound < np.inf
    }
    found: dict[str, Array] = {}
    module = to_torch(graph)
    with torch.inference_mode():
        for inputs in samples if wanted else ():
            for value, tensor in iterate_values(module, inputs, frozenset(wanted)):
                top = tensor.transpose(0, 1).flatten(1).amax(1).double().numpy()
                found[wanted[value]] = np.maximum(found.get(wanted[value], top), top)
    return found


def equalize(graph: Graph, tops: Mapping[str, Array] | None = None) -> Graph:
    """The same function with equalized weights under the same names; the graph itself if no pair is found.

    Args:
        graph: the model.
        tops: of :func:`highest`; without them pairs with a bound are left alone.
    """
    chosen = pairs(graph, bounded=tops is not None)
    if not chosen:
        return graph
    result = graph.clone()
    values: dict[str, ir.Value] = {}
    for layer_name in dict.fromkeys(n for pair in chosen for n in (pair.first, pair.second)):
        weight, bias = result.node(layer_name).inputs[1], _bias(result.node(layer_name))
        assert weight is not None
        values[layer_name] = weight
        if bias is not None:
            values[f"{layer_name}/bias"] = bias
    arrays = {key: _array(result, value) for key, value in values.items()}
    reached = {key: array.copy() for key, array in (tops or {}).items()}
    for _ in range(SWEEPS):
        moved = [_move(result, pair, arrays, reached) for pair in chosen]
        if max(moved) < 1e-3:
            break
    for key, value in values.items():
        value.const_value = ir.tensor(arrays[key].astype(np.float32), name=value.name)
    return Graph(result.model)


def _move(graph: Graph, pair: Pair, arrays: dict[str, Array], reached: dict[str, Array]) -> float:
    first, second = graph.node(pair.first), graph.node(pair.second)
    out = _outputs_first(first, arrays[pair.first])
    into = _inputs_first(second, arrays[pair.second])
    r1, r2 = (np.abs(w).reshape(len(w), -1).max(1) for w in (out, into))
    # A dead channel on either side has nothing to share.
    alive = (r1 > 0) & (r2 > 0)
    s = np.where(alive, np.sqrt(np.where(alive, r1, 1.0) / np.where(alive, r2, 1.0)), 1.0)
    s = np.clip(s, 1 / LIMIT, LIMIT)
    if pair.bound < np.inf:
        share = reached[pair.first] / (NEARLY * pair.bound)
        s = np.where(share < 1, np.maximum(s, share), 1.0)
        reached[pair.first] = reached[pair.first] / s
    out /= s.reshape((-1, *[1] * (out.ndim - 1)))
    into *= s.reshape((-1, *[1] * (into.ndim - 1)))
    if f"{pair.first}/bias" in arrays:
        arrays[f"{pair.first}/bias"] /= s
    return float(np.abs(np.log(s)).max(initial=0.0))


def _outputs_first(node: ir.Node, weight: Array) -> Array:
    """A view of the weight with its output channels first."""
    return weight if node.op_type == "Conv" or _transposed(node) else weight.T


def _inputs_first(node: ir.Node, weight: Array) -> Array:
    """A view of the weight with the channels that it reads first."""
    if node.op_type == "Conv":
        # A depthwise convolution reads channel i by its i-th filters alone.
        return weight if _groups(node) > 1 else weight.swapaxes(0, 1)
    return weight.T if _transposed(node) else weight


def _is_layer(graph: Graph, node: ir.Node) -> bool:
    if node.op_type not in ("Conv", "Gemm") or node.domain or graph.constant(node.inputs[1]) is None:
        return False
    weight, bias = node.inputs[1], _bias(node)
    if bias is not None:
        values = graph.constant(bias)
        if values is None or values.ndim != 1 or len(bias.uses()) != 1:
            return False
    if node.op_type == "Gemm" and (
        node.attributes.get_float("alpha", 1.0) != 1.0
        or node.attributes.get_float("beta", 1.0) != 1.0
        or bool(node.attributes.get_int("transA", 0))
    ):
        return False
    array = graph.constant(weight)
    assert array is not None
    assert weight is not None
    depthwise = array.shape[1] == 1 and array.shape[0] == _groups(node)
    return bool(len(weight.uses()) == 1 and (_groups(node) == 1 or depthwise))


def _fits(graph: Graph, first: ir.Node, second: ir.Node) -> bool:
    made = _outputs_first(first, _array(graph, first.inputs[1])).shape[0]
    return bool(made == _inputs_first(second, _array(graph, second.inputs[1])).shape[0])


def _upper_bound(graph: Graph, node: ir.Node) -> float | None:
    """The upper bound of a ReLU (infinite) or of a Clip from 0; None for any other op."""
    if node.domain:
        return None
    if node.op_type == "Relu":
        return np.inf
    if node.op_type != "Clip" or len(node.inputs) < 3:
        return None
    low, high = (graph.constant(value) for value in node.inputs[1:3])
    return float(high) if low is not None and high is not None and low.size == high.size == 1 and low == 0 else None


def _only_reader(node: ir.Node) -> ir.Node | None:
    if len(node.outputs) != 1 or node.outputs[0].is_graph_output():
        return None
    uses = tuple(node.outputs[0].uses())
    return uses[0].node if len(uses) == 1 and uses[0].idx == 0 else None


def _bias(node: ir.Node) -> ir.Value | None:
    return node.inputs[2] if len(node.inputs) > 2 else None


def _groups(node: ir.Node) -> int:
    return int(node.attributes.get_int("group", 1)) if node.op_type == "Conv" else 1


def _transposed(node: ir.Node) -> bool:
    return bool(node.attributes.get_int("transB", 0))


def _array(graph: Graph, value: ir.Value | None) -> Array:
    array = graph.constant(value)
    assert array is not None
    return np.array(array, np.float64)
