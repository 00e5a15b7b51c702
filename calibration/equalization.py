"""Cross-layer equalization: move scale between neighbouring layers so that their channels need one grid alike.

For a channel i between layers 1 and 2 with a positively homogeneous function between them (none, or ReLU), with r1_i,
r2_i the largest weights of that channel:

    s_i = sqrt(r1_i / r2_i),    W1_i /= s_i,   b1_i /= s_i,   W2_i *= s_i

which gives both sqrt(r1_i r2_i). Repeated over all pairs until nothing moves, since layers of a depthwise chain are
second of one pair and first of the next. The float function stays the same.

Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV
2019. What we changed: a ReLU6 between two layers (which they replace by a ReLU) refuses the pair, since its bound would
become one per channel; and no channel is moved by more than ``LIMIT``. It serves per-tensor weights, and the
activations' per-tensor grids; with per-channel weights the first layer's scales take up s by themselves.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeq.graph.graph import Graph, name

#: The largest factor by which a channel is moved.
LIMIT = 1e3
SWEEPS = 20

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """Two layers between which scale can move: node names, and what lies between them."""

    first: str
    second: str
    between: tuple[str, ...]


def pairs(graph: Graph) -> tuple[Pair, ...]:
    """All pairs in order: Conv (also depthwise) or Gemm, ReLU or nothing, Conv or Gemm; nobody else reads between."""
    found = []
    for node in graph.nodes:
        if not _is_layer(graph, node):
            continue
        between: list[str] = []
        follower = _only_reader(node)
        while follower is not None and follower.op_type == "Relu" and not follower.domain:
            between.append(name(follower))
            follower = _only_reader(follower)
        if follower is not None and _is_layer(graph, follower) and _fits(graph, node, follower):
            found.append(Pair(name(node), name(follower), tuple(between)))
    return tuple(found)


def equalize(graph: Graph) -> Graph:
    """The same function with equalized weights; the graph itself if no pair is found."""
    chosen = pairs(graph)
    if not chosen:
        return graph
    result = graph.clone()
    weights = {n: _array(result, result.node(n).inputs[1]) for pair in chosen for n in (pair.first, pair.second)}
    biases = {n: _array(result, _bias(result.node(n))) for n in weights if _bias(result.node(n)) is not None}
    for _ in range(SWEEPS):
        moved = [_move(result, pair, weights, biases) for pair in chosen]
        if max(moved) < 1e-3:
            break
    for node_name, weight in weights.items():
        node = result.node(node_name)
        node.replace_input_with(1, _initializer(result, f"{node_name}_equalized_weight", weight))
        if node_name in biases:
            node.replace_input_with(2, _initializer(result, f"{node_name}_equalized_bias", biases[node_name]))
    return Graph(result.model)


def _move(graph: Graph, pair: Pair, weights: dict[str, Array], biases: dict[str, Array]) -> float:
    first, second = graph.node(pair.first), graph.node(pair.second)
    out = _outputs_first(first, weights[pair.first])
    into = _inputs_first(second, weights[pair.second])
    r1, r2 = (np.abs(w).reshape(len(w), -1).max(1) for w in (out, into))
    # A dead channel on either side has nothing to share.
    alive = (r1 > 0) & (r2 > 0)
    s = np.where(alive, np.sqrt(np.where(alive, r1, 1.0) / np.where(alive, r2, 1.0)), 1.0)
    s = np.clip(s, 1 / LIMIT, LIMIT)
    out /= s.reshape((-1, *[1] * (out.ndim - 1)))
    into *= s.reshape((-1, *[1] * (into.ndim - 1)))
    if pair.first in biases:
        biases[pair.first] = biases[pair.first] / s
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


def _initializer(graph: Graph, value_name: str, array: Array) -> ir.Value:
    tensor = ir.tensor(array.astype(np.float32), name=value_name)
    value = ir.Value(name=value_name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    graph.model.graph.register_initializer(value)
    return value
