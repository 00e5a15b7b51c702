"""max(x, c) = clip(x, c, inf) and min(x, c) = clip(x, -inf, c): a clip is fused into the integer op before it."""

import numpy as np
import onnx_ir as ir

from edgeq.graph.graph import Graph, add_constant

_SINCE = 11  # Clip with its bounds as inputs


def clip_from_extremum(graph: Graph) -> Graph:
    """Rewrite Max and Min of one tensor and one constant number."""
    rewritten = graph.clone()
    for node in rewritten.nodes if graph.opset >= _SINCE else ():
        if node.op_type in ("Max", "Min") and not node.domain and len(node.inputs) == 2:
            _rewrite(rewritten, node)
    return Graph(rewritten.model)


def _rewrite(graph: Graph, node: ir.Node) -> None:
    for value, bound in (tuple(node.inputs), tuple(node.inputs)[::-1]):
        array = graph.constant(bound)
        if array is None or graph.constant(value) is not None or array.dtype != np.float32 or array.size != 1:
            continue
        if value is None or value.shape is None or array.ndim > len(value.shape):
            continue
        assert bound is not None
        scalar = bound if array.ndim == 0 else add_constant(graph, f"{node.name}_bound", array.reshape(()))
        bounds = [scalar] if node.op_type == "Max" else [None, scalar]
        clip = ir.node("Clip", [value, *bounds], name=node.name, metadata_props=dict(node.metadata_props))
        ir.convenience.replace_nodes_and_values(graph.model.graph, node, [node], [clip], node.outputs, clip.outputs)
        return
