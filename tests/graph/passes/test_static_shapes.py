"""Targets that depend on the batch alone become constants; the function stays."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.graph.passes import clean


def _model(op: str, batch_dims: list[object], target_dims: list[object], constants: list[int]) -> Graph:
    """x -> op(x, Concat(Shape(x)[0], constants))."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Concat", ["batch", "rest"], ["target"], axis=0),
        helper.make_node(op, ["x", "target"], ["y"]),
    ]
    initializers = [
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
        numpy_helper.from_array(np.array(constants, np.int64), "rest"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, batch_dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, target_dims)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return Graph(ir.from_proto(model))


@pytest.mark.parametrize(
    ("op", "source", "target", "constants"),
    [("Reshape", ["n", 12], ["n", 3, 4], [3, 4]), ("Expand", ["n", 1, 4], ["n", 3, 4], [3, 4])],
)
def test_the_chain_that_computes_the_target_is_gone(
    op: str, source: list[object], target: list[object], constants: list[int]
) -> None:
    graph = clean(_model(op, source, target, constants))
    assert [node.op_type for node in graph.nodes] == [op]
    module = to_torch(graph)
    for batch in (1, 5):
        x = torch.randn(batch, *(d for d in source[1:] if isinstance(d, int)))
        wanted = x.reshape(batch, 3, 4) if op == "Reshape" else x.expand(batch, 3, 4)
        assert torch.equal(module(x), wanted)


def test_two_unknown_dimensions_stay_computed() -> None:
    graph = clean(_model("Reshape", ["n", "m"], ["n", "k"], [-1]))
    assert "Shape" in {node.op_type for node in graph.nodes}
