"""Small graphs and their skeletons for the tests of this folder."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from edgeq.graph.graph import Graph
from edgeq.graph.passes import clean
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Skeleton
from edgeq.plan.rules import Request, decide


def build(
    nodes: Sequence[onnx.NodeProto],
    input_shape: Sequence[int | str],
    constants: Mapping[str, np.ndarray],
    outputs: Sequence[str] = (),
) -> Graph:
    """A graph with the input ``x`` and, as output, what the last node makes or what is named."""
    model = helper.make_model(
        helper.make_graph(
            list(nodes),
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(input_shape))],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs or nodes[-1].output[:1]],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    return clean(Graph(ir.from_proto(onnx.shape_inference.infer_shapes(model))))


def skeleton(graph: Graph, bits: str = "w8a8", **options: bool) -> Skeleton:
    """Everything in those bits."""
    return decide(graph, Request(Bits.parse(bits), **options))


def convolutions(seed: int = 0, channels: int = 8, side: int = 6) -> Graph:
    """Convolution, ReLU, depthwise convolution, ReLU6, pointwise convolution added to its input; then a classifier."""
    g = np.random.default_rng(seed)

    def weight(*shape: int) -> np.ndarray:
        return (g.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    c = channels
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "depthwise", pads=[1, 1, 1, 1], group=c),
        helper.make_node("Clip", ["c2", "zero", "six"], ["r2"], "relu6"),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], "pointwise"),
        helper.make_node("Add", ["c3", "r1"], ["a"], "add"),
        helper.make_node("GlobalAveragePool", ["a"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["y"], "classifier", transB=1),
    ]
    constants = {
        "w1": weight(c, 3, 3, 3), "b1": weight(c, 1)[:, 0], "w2": weight(c, 1, 3, 3), "b2": weight(c, 1)[:, 0],
        "w3": weight(c, c, 1, 1), "b3": weight(c, 1)[:, 0], "w4": weight(4, c), "b4": weight(4, 1)[:, 0],
        "zero": np.float32(0), "six": np.float32(6),
    }  # fmt: skip
    return build(nodes, ["batch", 3, side, side], constants)


def images(count: int, seed: int = 1, side: int = 6) -> np.ndarray:
    """Smooth random images, so that neighbouring pixels are correlated as in real ones."""
    g = np.random.default_rng(seed)
    coarse = g.normal(size=(count, 3, side // 2, side // 2))
    fine = np.repeat(np.repeat(coarse, 2, 2), 2, 3) + 0.3 * g.normal(size=(count, 3, side, side))
    return fine.astype(np.float32)
