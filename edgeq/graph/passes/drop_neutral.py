"""What does nothing is left out: a sum with zeros, a choice whose condition is constant and the same everywhere.

    x + 0 = x        Where(all true, x, y) = x        Where(all false, x, y) = y

The bodies of functions hold such steps for what a node did not ask for: a mask, say. Kept, they would end the integer
part. Only where the result has the shape and type of what is kept.
"""

import numpy as np
import onnx_ir as ir

from edgeq.graph.graph import Graph
from edgeq.graph.passes.drop_empty import pass_on


def drop_neutral(graph: Graph) -> Graph:
    """Put what is kept in the place of the result."""
    rewritten = graph.clone()
    for node in rewritten.nodes:
        kept = None if node.domain else _kept(rewritten, node)
        if kept is None or not _same_form(kept, node.outputs[0]):
            continue
        pass_on(rewritten, node, kept, node.outputs[0])
    return Graph(rewritten.model)


def _kept(graph: Graph, node: ir.Node) -> ir.Value | None:
    if node.op_type == "Add":
        for index in (0, 1):
            array = graph.constant(node.inputs[index])
            if array is not None and array.size and not array.any():
                return node.inputs[1 - index]
    if node.op_type == "Where":
        condition = graph.constant(node.inputs[0])
        if condition is not None and condition.size and (condition.all() or not condition.any()):
            return node.inputs[1 if bool(np.all(condition)) else 2]
    return None


def _same_form(kept: ir.Value, result: ir.Value) -> bool:
    if kept.const_value is not None or kept.shape is None or result.shape is None or kept.dtype != result.dtype:
        return False
    return list(kept.shape) == list(result.shape)
