"""x / c = x * (1 / c): a division by a constant is a product, which both runtimes have an integer kernel for.

The reciprocal is rounded once, so a quotient may differ in its last bit.
"""

import numpy as np
import onnx_ir as ir

from edgeq.graph.graph import Graph, add_constant, name


def multiply_by_reciprocal(graph: Graph) -> Graph:
    """Rewrite Div by a float constant whose reciprocals are all ordinary numbers."""
    rewritten = graph.clone()
    for node in rewritten.nodes:
        if node.op_type == "Div" and not node.domain:
            _rewrite(rewritten, node)
    return Graph(rewritten.model)


def _rewrite(graph: Graph, node: ir.Node) -> None:
    numerator, divisor = node.inputs
    array = graph.constant(divisor)
    if array is None or array.dtype != np.float32 or graph.constant(numerator) is not None or not array.size:
        return
    with np.errstate(divide="ignore", over="ignore"):
        reciprocal = np.asarray(np.float32(1) / array, np.float32)
    tiny = np.finfo(np.float32).tiny
    if not np.isfinite(reciprocal).all() or (np.abs(reciprocal) < tiny).any():
        return
    value = add_constant(graph, f"{name(node)}_reciprocal", reciprocal)
    product = ir.node("Mul", [numerator, value], name=node.name, metadata_props=dict(node.metadata_props))
    ir.convenience.replace_nodes_and_values(graph.model.graph, node, [node], [product], node.outputs, product.outputs)
