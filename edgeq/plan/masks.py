"""Attention masks that a model computes from its inputs: the sum with one has no use for 8 bits.

A mask adds -10,000 or more to the scores of places that do not exist. On one grid with it all real scores round to one
code, and the softmax behind it tells nothing apart. A constant mask is told by its numbers (``edgeq.plan.rules``); a
computed one by where it comes from: nothing on its way multiplies matrices, so it knows the inputs' form alone.
"""

from collections.abc import Mapping, Sequence

from edgeq.graph.graph import Graph
from edgeq.plan.ops import WEIGHTED
from edgeq.plan.plan import Unit

#: Ops that make numbers of what the model has learned; a mask depends on none of them.
_LEARNED = WEIGHTED | {
    "Attention",
    "Einsum",
    "Gather",
    "GRU",
    "LayerNormalization",
    "LSTM",
    "MultiHeadAttention",
    "RNN",
}


def computed_masks(graph: Graph, units: Sequence[Unit]) -> Mapping[str, str]:
    """Unit name -> why it is left in float, for the sums of scores and a computed mask before a softmax.

    Args:
        graph: the model.
        units: all of it, in topological order.
    """
    learned = _learned(graph)
    readers: dict[str, set[str]] = {}
    for unit in units:
        for value in unit.inputs:
            readers.setdefault(value, set()).add(unit.op)
    found = {}
    for unit in units:
        if unit.op not in ("Add", "Sub") or readers.get(unit.outputs[0]) != {"Softmax"}:
            continue
        operands = [value for value in unit.inputs if graph.constant(value) is None]
        masks = [value for value in operands if value not in learned]
        if len(operands) == 2 and len(masks) == 1:
            found[unit.name] = f"adds the mask {masks[0]!r}, beside whose numbers all others would round to one code"
    return found


def _learned(graph: Graph) -> frozenset[str]:
    """The computed values that depend on a layer's output."""
    found: set[str] = set()
    for node in graph.nodes:
        if node.op_type in ("Shape", "Size"):
            continue  # the form of what was learned, not its numbers: a causal mask is made from it
        if node.op_type in _LEARNED or any(value is not None and value.name in found for value in node.inputs):
            found.update(value.name for value in node.outputs if value.name)
    return frozenset(found)
