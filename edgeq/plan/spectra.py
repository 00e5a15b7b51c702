"""Recognize the front end of a sound model: layers whose output is squared, summed up and goes into a logarithm.

A power spectrum spans many decades, of which 256 even steps hold two or three: the quiet bands vanish, and the
logarithm behind makes of their zeros the largest errors of all. Such layers are few and small: they stay in float.
Where a square root stands instead of the logarithm, the quiet bands matter less, and the layers may be integer.
"""

from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from edgeq.graph.graph import Graph
from edgeq.plan.ops import WEIGHTED
from edgeq.plan.plan import Unit

#: Ops that a value passes on its way without other numbers: they move it, or bound it from below.
_PASSES = frozenset(
    {"Clip", "Gather", "Identity", "Max", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)

#: Ops between the square and the logarithm that keep a sum of powers one: weighted sums, bounds, moves.
_SUMS = _PASSES | {"Add", "Gemm", "MatMul", "Mul", "ReduceSum", "ReduceMean", "Sum"}


def spectra(graph: Graph, units: Sequence[Unit]) -> Mapping[str, str]:
    """Unit name -> why it is left in float, for layers whose output goes into a logarithm, squared perhaps.

    Args:
        graph: the model.
        units: all of it, in topological order.
    """
    found = {}
    for unit in units:
        if unit.op not in WEIGHTED or unit.weight is None:
            continue
        uses = list(_uses(graph, graph.value(unit.outputs[0])))
        if uses and unit.clamp is None and all(_squares(graph, *use) for use in uses):
            if any(_reaches_logarithm(node) for node, _ in uses):
                found[unit.name] = (
                    "the logarithm of its square is taken: a spectrum spans more decades than 8 bits hold"
                )
        elif uses and all(node.op_type == "Log" for node, _ in uses):
            found[unit.name] = "its output goes into a logarithm, which tells small numbers apart that 8 bits do not"
    return found


def _uses(graph: Graph, value: ir.Value) -> Iterator[tuple[ir.Node, ir.Value]]:
    """The nodes that compute on a value, and what of it they read; an output of the graph counts as the maker."""
    maker = value.producer()
    if value.is_graph_output() and maker is not None:
        yield maker, value
    for node, position in value.uses():
        if node.op_type in _PASSES and not node.domain and (position == 0 or node.op_type == "Max"):
            for output in node.outputs:
                yield from _uses(graph, output)
        else:
            yield node, value


def _squares(graph: Graph, node: ir.Node, value: ir.Value) -> bool:
    if node.domain:
        return False
    if node.op_type == "Pow":
        power = graph.constant(node.inputs[1])
        return power is not None and power.size == 1 and float(power.reshape(())) == 2.0
    return node.op_type == "Mul" and all(operand is value for operand in node.inputs)


def _reaches_logarithm(square: ir.Node) -> bool:
    behind = [node for output in square.outputs for node, _ in output.uses() if not node.domain]
    return any(
        node.op_type == "Log" or (node.op_type in _SUMS and _reaches_logarithm(node)) for node in dict.fromkeys(behind)
    )
