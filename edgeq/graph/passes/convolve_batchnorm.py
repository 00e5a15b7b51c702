"""A BatchNormalization that no layer before it can take in is a 1 x 1 convolution of each channel by itself.

That form has an integer kernel in both runtimes, with a scale for each channel and one requantization.
"""

import numpy as np
import onnx_ir as ir

from edgeq.graph.graph import Graph, add_constant, name


def convolve_batchnorm(graph: Graph) -> Graph:
    """Rewrite every BatchNormalization of feature maps (samples, channels, height, width) with constant statistics."""
    rewritten = graph.clone()
    for node in rewritten.nodes:
        if node.op_type == "BatchNormalization" and not node.domain and _is_constant(rewritten, node):
            _rewrite(rewritten, node)
    return Graph(rewritten.model)


def _is_constant(graph: Graph, node: ir.Node) -> bool:
    source = node.inputs[0]
    return (
        source is not None
        and source.shape is not None
        and len(source.shape) == 4
        and source.dtype == ir.DataType.FLOAT
        and node.attributes.get_int("training_mode", 0) == 0
        and all(graph.constant(value) is not None for value in node.inputs[1:5])
    )


def _rewrite(graph: Graph, node: ir.Node) -> None:
    scale, shift, mean, variance = (np.asarray(graph.constant(v), np.float64) for v in node.inputs[1:5])
    factor = scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    weight = add_constant(graph, f"{name(node)}_weight", factor.reshape(-1, 1, 1, 1).astype(np.float32))
    bias = add_constant(graph, f"{name(node)}_bias", (shift - mean * factor).astype(np.float32))
    attributes = {"group": len(factor), "kernel_shape": [1, 1]}
    metadata = dict(node.metadata_props)
    convolution = ir.node("Conv", [node.inputs[0], weight, bias], attributes, name=node.name, metadata_props=metadata)
    ir.convenience.replace_nodes_and_values(
        graph.model.graph, node, [node], [convolution], node.outputs[:1], convolution.outputs
    )
