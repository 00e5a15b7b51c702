"""A model that was quantized before, without its rounding: each pair of QuantizeLinear and DequantizeLinear is a Clip.

What a pair does beside rounding is saturate at the ends of its grid, and that may be all that is left of a ReLU: other
quantizers remove the ReLU before a pair whose grid begins at zero. So the pair becomes Clip(x, lowest, highest) of the
real numbers at the ends, and the model can be quantized anew. Weights that are stored as codes become the real numbers
that they stand for.
"""

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeq.errors import ModelError, first_line
from edgeq.graph.execute import as_tensor
from edgeq.graph.graph import Graph, attributes, name
from edgeq.graph.ops.quantization import dequantize_linear
from edgeq.graph.passes.remove_dead import remove_dead


def pairs_to_clips(graph: Graph) -> Graph:
    """The graph with a Clip for every pair on one scale; other nodes stay.

    Raises:
        ModelError: the scale of a constant does not fit it.
    """
    rewritten = graph.clone()
    for node in rewritten.nodes:
        if node.op_type == "DequantizeLinear" and all(rewritten.constant(value) is not None for value in node.inputs):
            if not node.outputs[0].is_graph_output():
                _fold(rewritten, node)
            continue
        source = (
            node.inputs[0].producer() if node.op_type == "DequantizeLinear" and node.inputs[0] is not None else None
        )
        if source is None or source.op_type != "QuantizeLinear" or source.inputs[0] is None:
            continue
        ends = _ends(rewritten, source, node)
        if ends is None:
            continue
        bounds = [_constant(rewritten, f"{name(node)}_{end}", value) for end, value in zip("lh", ends, strict=True)]
        clip = ir.node("Clip", [source.inputs[0], *bounds], name=f"{name(node)}_clip")
        ir.convenience.replace_nodes_and_values(rewritten.model.graph, node, [node], [clip], node.outputs, clip.outputs)
    return remove_dead(Graph(rewritten.model))


def _fold(graph: Graph, node: ir.Node) -> None:
    arrays = [graph.constant(value) for value in node.inputs]
    try:
        tensors = [as_tensor(array) for array in arrays if array is not None]
        real = dequantize_linear(*tensors, **attributes(node)).numpy()
    except (IndexError, RuntimeError, TypeError, ValueError) as error:  # of scales that do not fit the codes
        raise ModelError(f"node {node.name!r} (DequantizeLinear) cannot be computed ({first_line(error)})") from error
    value = _constant(graph, f"{name(node)}_real", real.astype(np.float32))
    ir.convenience.replace_all_uses_with(node.outputs[0], value)


def _ends(graph: Graph, quantize: ir.Node, dequantize: ir.Node) -> tuple[float, float] | None:
    """The real numbers at the ends of the grid; None if the two nodes do not have one and the same scale."""
    scales = [graph.constant(each.inputs[1]) for each in (quantize, dequantize)]
    zeros = [_zero_point(graph, each) for each in (quantize, dequantize)]
    codes = quantize.outputs[0].dtype
    if any(scale is None or scale.size != 1 for scale in scales) or codes is None or not codes.is_integer():
        return None
    if zeros[0] is None or zeros[0] != zeros[1] or not np.array_equal(scales[0], scales[1]):  # type: ignore[arg-type]
        return None
    scale = float(np.asarray(scales[0]).reshape(()))
    return (int(codes.min) - zeros[0]) * scale, (int(codes.max) - zeros[0]) * scale


def _zero_point(graph: Graph, node: ir.Node) -> int | None:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return 0
    found = graph.constant(node.inputs[2])
    return None if found is None or found.size != 1 or found.dtype.kind not in "iu" else int(found.reshape(()))


def _constant(graph: Graph, value_name: str, numbers: float | npt.NDArray[np.float32]) -> ir.Value:
    array = np.asarray(numbers, np.float32)
    tensor = ir.tensor(array, name=value_name)
    value = ir.Value(name=value_name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    graph.model.graph.register_initializer(value)
    return value
