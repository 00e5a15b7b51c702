"""x * clip(x + 3, 0, 6) / 6 = HardSwish(x): exporters of older operator sets write it out in four ops.

One op has one requantization and one integer kernel in LiteRT, where four would round four times. Defined by
MobileNetV3 (Howard et al., 2019, section 5.2); ``x * HardSigmoid(x)`` with alpha 1/6 and beta 1/2 is the same.
"""

from collections.abc import Callable

import onnx_ir as ir

from edgeq.graph.graph import Graph

_SINCE = 14  # HardSwish entered the standard
_SIXTH = 1 / 6
# 1/6 is written with six digits or more.
_TOLERANCE = 1e-5


def fuse_hard_swish(graph: Graph) -> Graph:
    """Rewrite every product that is a HardSwish; what computed its parts dies if nothing else reads it."""
    rewritten = graph.clone()
    for node in rewritten.nodes if graph.opset >= _SINCE else ():
        source = _source(rewritten, node)
        if source is not None:
            fused = ir.node("HardSwish", [source], name=node.name, metadata_props=dict(node.metadata_props))
            ir.convenience.replace_nodes_and_values(
                rewritten.model.graph, node, [node], [fused], node.outputs, fused.outputs
            )
    return Graph(rewritten.model)


def _source(graph: Graph, node: ir.Node) -> ir.Value | None:
    """x, if the node's output is HardSwish(x)."""
    if node.op_type != "Mul" or node.domain:
        return None
    product = _without_factor(graph, node, _SIXTH)
    if product is not None and product.producer() is not None:  # (x * clip(x + 3, 0, 6)) / 6
        inner = product.producer()
        assert inner is not None
        return _factor_of(graph, inner, _clipped) if inner.op_type == "Mul" and not inner.domain else None
    return _factor_of(graph, node, _gate)  # x * (clip(x + 3, 0, 6) / 6), or x * HardSigmoid(x)


def _factor_of(graph: Graph, node: ir.Node, gate: Callable[[Graph, ir.Value], ir.Value | None]) -> ir.Value | None:
    """x, if the node computes x * v and v is the gate of x."""
    first, second = node.inputs
    for value, other in ((first, second), (second, first)):
        if value is not None and other is not None and gate(graph, other) is value:
            return value
    return None


def _gate(graph: Graph, value: ir.Value) -> ir.Value | None:
    """x, if the value is clip(x + 3, 0, 6) / 6."""
    node = value.producer()
    if node is None or node.domain:
        return None
    if node.op_type == "HardSigmoid":
        alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
        return node.inputs[0] if abs(alpha - _SIXTH) < _TOLERANCE and abs(beta - 0.5) < _TOLERANCE else None
    scaled = _without_factor(graph, node, _SIXTH)
    return None if scaled is None else _clipped(graph, scaled)


def _clipped(graph: Graph, value: ir.Value) -> ir.Value | None:
    """x, if the value is clip(x + 3, 0, 6)."""
    node = value.producer()
    if node is None or node.domain or node.op_type != "Clip" or len(node.inputs) != 3:
        return None
    if _number(graph, node.inputs[1]) != 0.0 or _number(graph, node.inputs[2]) != 6.0 or node.inputs[0] is None:
        return None
    added = node.inputs[0].producer()
    if added is None or added.domain or added.op_type != "Add":
        return None
    first, second = added.inputs
    return first if _number(graph, second) == 3.0 else second if _number(graph, first) == 3.0 else None


def _without_factor(graph: Graph, node: ir.Node, factor: float) -> ir.Value | None:
    """v, if the node computes v * factor."""
    if node.op_type != "Mul" or node.domain:
        return None
    first, second = node.inputs
    for value, other in ((first, second), (second, first)):
        number = _number(graph, other)
        if number is not None and abs(number - factor) < _TOLERANCE:
            return value
    return None


def _number(graph: Graph, value: ir.Value | None) -> float | None:
    array = graph.constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None
