"""Multiply-accumulate operations of each node."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgeq.graph.graph import Graph, name

Shapes = Mapping[str, tuple[int, ...]]


def macs(graph: Graph, shapes: Shapes) -> dict[str, int]:
    """Node name -> multiply-accumulates for these shapes; nodes without any (adds, pools, moves) are left out."""
    counted = {name(node): _count(graph, node, shapes) for node in graph.nodes}
    return {node: count for node, count in counted.items() if count}


def _count(graph: Graph, node: ir.Node, shapes: Shapes) -> int:
    if node.op_type in ("Conv", "ConvTranspose"):
        weight = _shape(graph, node.inputs[1], shapes)
        # Every output element of a convolution (input element of a transposed one) meets one filter's taps.
        per_element = weight[1:]
        value = node.outputs[0] if node.op_type == "Conv" else node.inputs[0]
        return int(np.prod(_shape(graph, value, shapes)) * np.prod(per_element))
    if node.op_type in ("Gemm", "MatMul"):
        left = _shape(graph, node.inputs[0], shapes)
        inner = left[0 if node.attributes.get_int("transA", 0) else -1]
        return int(np.prod(_shape(graph, node.outputs[0], shapes)) * inner)
    if node.op_type in ("LSTM", "GRU", "RNN"):
        steps, batch = _shape(graph, node.inputs[0], shapes)[:2]
        return steps * batch * sum(int(np.prod(_shape(graph, value, shapes))) for value in node.inputs[1:3])
    return 0


def _shape(graph: Graph, value: ir.Value | None, shapes: Shapes) -> tuple[int, ...]:
    assert value is not None
    if name(value) in shapes:
        return shapes[name(value)]
    constant = graph.constant(value)
    assert constant is not None, value.name
    return constant.shape
