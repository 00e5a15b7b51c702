"""Pairs of layers between which something can move: a scale (``equalization``), a constant (``absorption``).

The second layer alone reads what the first makes, with nothing between them but ReLUs, with a bound or without one.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from edgeq.graph.execute import iterate_values, to_torch
from edgeq.graph.graph import Graph, name

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """Two layers: node names, what lies between them, and its upper bound."""

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


def reaches(
    graph: Graph, layers: Iterable[str], samples: Iterable[tuple[torch.Tensor, ...]]
) -> dict[str, tuple[Array, Array]]:
    """Layer -> the smallest and the largest output of each of its channels on the samples, before any ReLU."""
    wanted = {name(graph.node(layer).outputs[0]): layer for layer in layers}
    found: dict[str, tuple[Array, Array]] = {}
    module = to_torch(graph)
    with torch.inference_mode():
        for inputs in samples if wanted else ():
            for value, tensor in iterate_values(module, inputs, frozenset(wanted)):
                channels = tensor.transpose(0, 1).flatten(1)
                low, high = (reach.double().numpy() for reach in (channels.amin(1), channels.amax(1)))
                before = found.get(wanted[value], (low, high))
                found[wanted[value]] = np.minimum(before[0], low), np.maximum(before[1], high)
    return found


def outputs_first(node: ir.Node, weight: Array) -> Array:
    """A view of the weight with its output channels first."""
    return weight if node.op_type == "Conv" or _transposed(node) else weight.T


def inputs_first(node: ir.Node, weight: Array) -> Array:
    """A view of the weight with the channels that it reads first."""
    if node.op_type == "Conv":
        # A depthwise convolution reads channel i by its i-th filters alone.
        return weight if groups(node) > 1 else weight.swapaxes(0, 1)
    return weight.T if _transposed(node) else weight


def groups(node: ir.Node) -> int:
    """Groups of channels that are read apart; of a layer of a pair 1, or (depthwise) all."""
    return int(node.attributes.get_int("group", 1)) if node.op_type == "Conv" else 1


def bias(node: ir.Node) -> ir.Value | None:
    """The layer's bias, if it has one."""
    return node.inputs[2] if len(node.inputs) > 2 else None


def array(graph: Graph, value: ir.Value | None) -> Array:
    """A copy of a constant, as float64."""
    found = graph.constant(value)
    assert found is not None
    return np.array(found, np.float64)


def _is_layer(graph: Graph, node: ir.Node) -> bool:
    if node.op_type not in ("Conv", "Gemm") or node.domain or graph.constant(node.inputs[1]) is None:
        return False
    weight, added = node.inputs[1], bias(node)
    numbers = graph.constant(weight)
    assert numbers is not None
    assert weight is not None
    if added is not None:
        values = graph.constant(added)
        # A Gemm's bias may be one number for all channels, which cannot move apart.
        channels = outputs_first(node, numbers).shape[:1]
        if values is None or values.shape != channels or len(added.uses()) != 1:
            return False
    if node.op_type == "Gemm" and (
        node.attributes.get_float("alpha", 1.0) != 1.0
        or node.attributes.get_float("beta", 1.0) != 1.0
        or bool(node.attributes.get_int("transA", 0))
    ):
        return False
    depthwise = numbers.shape[1] == 1 and numbers.shape[0] == groups(node)
    return bool(len(weight.uses()) == 1 and (groups(node) == 1 or depthwise))


def _fits(graph: Graph, first: ir.Node, second: ir.Node) -> bool:
    made = outputs_first(first, array(graph, first.inputs[1])).shape[0]
    return bool(made == inputs_first(second, array(graph, second.inputs[1])).shape[0])


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


def _transposed(node: ir.Node) -> bool:
    return bool(node.attributes.get_int("transB", 0))
