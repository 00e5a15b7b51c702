"""Recognize what a detector does behind its heads: decoding boxes and choosing among them is no place for 8 bits.

A *tail* is what comes behind the last layers with weights. It is post-processing if it holds one of the marks:
- an op that chooses (NonMaxSuppression, TopK) or decodes (Exp, of box sizes);
- arithmetic with a table of anchors: a constant of many numbers along two axes, for each place and coordinate.
The arithmetic of such a tail stays in float: a box in pixels on 256 steps is off by pixels, scores near one another
tie, and there is next to nothing to gain, since a tail has no products of matrices. Ops that only move numbers
follow what they read.
"""

from collections.abc import Mapping, Sequence

from edgeq.graph.graph import Graph
from edgeq.plan.ops import SAME_GRID, WEIGHTED
from edgeq.plan.plan import Unit

#: Ops that mark a tail as post-processing.
MARKS = frozenset({"NonMaxSuppression", "TopK", "Exp"})
#: A table of anchors has at least so many numbers.
_TABLE = 64
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div"})
#: Ops with weights, beside those of ``edgeq.plan.ops``; nothing before one of them is a tail.
_MORE_LAYERS = frozenset({"LSTM", "GRU", "RNN", "Attention", "MultiHeadAttention", "DeformConv"})


def post_processing(graph: Graph, units: Sequence[Unit]) -> Mapping[str, str]:
    """Unit name -> why it is left in float, for the arithmetic behind detection heads.

    Args:
        graph: the model.
        units: all of it, in topological order.
    """
    found: dict[str, str] = {}
    for component in _components(units, _tail(units)):
        mark = next((mark for unit in component if (mark := _mark(graph, unit))), "")
        for unit in component if mark else ():
            if unit.op not in SAME_GRID:
                found[unit.name] = f"post-processing behind the detection heads ({mark}), left in float"
    return found


def _mark(graph: Graph, unit: Unit) -> str:
    if unit.op in MARKS:
        return unit.op
    if unit.op in _ARITHMETIC:
        for value in graph.node(unit.name).inputs:
            array = graph.constant(value)
            if array is not None and array.size >= _TABLE and sum(size > 1 for size in array.shape) > 1:
                return "a table of anchors"
    return ""


def _tail(units: Sequence[Unit]) -> frozenset[str]:
    """Names of the units behind which no layer comes."""
    leads_on: set[str] = set()  # values that a layer reads, directly or not
    tail = set()
    for unit in reversed(units):
        layer = unit.op in WEIGHTED or unit.op.rpartition("::")[2] in _MORE_LAYERS
        if layer or any(value in leads_on for value in unit.outputs):
            leads_on.update(unit.inputs)
        else:
            tail.add(unit.name)
    return frozenset(tail)


def _components(units: Sequence[Unit], tail: frozenset[str]) -> list[list[Unit]]:
    """The tail's units in groups that hand values to one another."""
    group_of: dict[str, list[Unit]] = {}  # value made in the tail -> the units of its group
    groups: list[list[Unit]] = []
    for unit in units:
        if unit.name not in tail:
            continue
        joined = [unit]
        for other in {id(g): g for value in unit.inputs if (g := group_of.get(value)) is not None}.values():
            groups.remove(other)
            joined = other + joined
        groups.append(joined)
        for member in joined:
            group_of.update(dict.fromkeys(member.outputs, joined))
    return groups
