"""One flat graph: functions inlined, Constant nodes as initializers, initializers no longer inputs."""

import onnx_ir as ir
from onnx_ir.passes import common

from edgeq.errors import ModelError
from edgeq.graph.graph import Graph

_PASSES = (
    common.InlinePass(),
    common.RemoveInitializersFromInputsPass(),
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    common.LiftSubgraphInitializersToMainGraphPass(),
    common.TopologicalSortPass(),
)


def canonicalize(graph: Graph) -> Graph:
    """Flatten the graph with onnx_ir's own passes.

    Raises:
        ModelError: the graph has a cycle or a broken function.
    """
    model = graph.clone().model
    try:
        for graph_pass in _PASSES:
            model = graph_pass(model).model
    except (ir.passes.PassError, ValueError, KeyError) as error:
        raise ModelError(f"the ONNX graph is malformed: {error}") from error
    return Graph(model)
