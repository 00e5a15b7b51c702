"""Nodes and initializers that no output depends on are removed."""

from onnx_ir.passes import common

from edgeq.graph.graph import Graph


def remove_dead(graph: Graph) -> Graph:
    """Drop unused nodes, initializers and operator sets."""
    model = graph.clone().model
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedOpsetsPass()(model)
    return Graph(model)
