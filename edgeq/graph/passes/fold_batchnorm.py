"""BatchNormalization in inference mode is a scale and a shift: folded into the convolution or Gemm before it.

w' = w * gamma / sqrt(var + eps),   b' = (b - mean) * gamma / sqrt(var + eps) + beta
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeq.graph.graph import MODULE_PATH, Graph, add_constant

Array = npt.NDArray[Any]


def fold_batchnorm(graph: Graph) -> Graph:
    """Fold every BatchNormalization whose only producer is a Conv, ConvTranspose or Gemm with constant weights."""
    folded = graph.clone()
    for node in folded.nodes:
        if node.op_type == "BatchNormalization" and not node.domain:
            producer = node.inputs[0].producer() if node.inputs[0] is not None else None
            if producer is not None and _foldable(folded, producer, node):
                _fold(folded, producer, node)
    return Graph(folded.model)


def _foldable(graph: Graph, producer: ir.Node, batchnorm: ir.Node) -> bool:
    # With training_mode the statistics come from the batch; with a second reader the unnormalized value is needed.
    return (
        producer.op_type in ("Conv", "ConvTranspose", "Gemm")
        and not producer.domain
        and len(producer.outputs[0].uses()) == 1
        and not producer.outputs[0].is_graph_output()
        and batchnorm.attributes.get_int("training_mode", 0) == 0
        and (producer.op_type != "ConvTranspose" or producer.attributes.get_int("group", 1) == 1)
        and all(value is not None and graph.constant(value) is not None for value in batchnorm.inputs[1:5])
        and graph.constant(producer.inputs[1]) is not None
        and (len(producer.inputs) < 3 or producer.inputs[2] is None or graph.constant(producer.inputs[2]) is not None)
        and (producer.op_type != "Gemm" or producer.attributes.get_float("beta", 1.0) == 1.0)
    )


def _fold(graph: Graph, producer: ir.Node, batchnorm: ir.Node) -> None:
    gamma, beta, mean, variance = (_array(graph, value) for value in batchnorm.inputs[1:5])
    factor = gamma / np.sqrt(variance + batchnorm.attributes.get_float("epsilon", 1e-5))
    weight_value = producer.inputs[1]
    assert weight_value is not None
    weight = _array(graph, weight_value)
    bias_value = producer.inputs[2] if len(producer.inputs) > 2 else None
    bias = np.zeros_like(mean) if bias_value is None else np.broadcast_to(_array(graph, bias_value), mean.shape)
    shape = [1] * weight.ndim
    shape[output_axis(producer)] = -1
    prefix = producer.outputs[0].name
    new_weight = add_constant(
        graph, f"{weight_value.name}_folded_{prefix}", (weight * factor.reshape(shape)).astype(np.float32)
    )
    new_bias = add_constant(graph, f"{prefix}_folded_bias", ((bias - mean) * factor + beta).astype(np.float32))
    producer.replace_input_with(1, new_weight)
    if len(producer.inputs) < 3:
        producer.resize_inputs(3)
    producer.replace_input_with(2, new_bias)
    if not producer.metadata_props.get(MODULE_PATH):
        producer.metadata_props.update(batchnorm.metadata_props)
    ir.convenience.replace_all_uses_with(batchnorm.outputs[0], producer.outputs[0], replace_graph_outputs=True)
    graph.model.graph.remove(batchnorm, safe=True)


def output_axis(node: ir.Node) -> int:
    """The axis of a Conv, ConvTranspose, Gemm or MatMul weight that counts output channels, in the graph's layout."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    weight = node.inputs[1]
    return len(weight.shape) - 1 if weight is not None and weight.shape is not None else 1


def _array(graph: Graph, value: ir.Value | None) -> Array:
    array = graph.constant(value)
    assert array is not None
    return array.astype(np.float64)
