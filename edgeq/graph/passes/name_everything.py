"""Every node and value gets a unique name, so that plan, reports and files can point at it."""

from onnx_ir.passes import common

from edgeq.graph.graph import Graph


def name_everything(graph: Graph) -> Graph:
    """Fix missing and duplicate names; existing unique names stay as the user wrote them."""
    model = graph.clone().model
    common.NameFixPass()(model)
    taken = {node.name for node in model.graph}
    assert len(taken) == len(list(model.graph))
    return Graph(model)
