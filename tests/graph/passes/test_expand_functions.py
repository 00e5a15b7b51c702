"""Ops that the standard defines by others: written out they compute the same, and their products are integer."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgeq.errors import ModelError
from edgeq.exporters import tflite
from edgeq.graph.conformance import Case, node_cases
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.graph.passes import clean
from edgeq.graph.passes.expand_functions import EXPANDED, expand_functions
from edgeq.plan.rules import Request, decide

from ...graphs import graph_of, n
from ...simulate.networks import Network

#: Half precision rounds after each step, and the body's steps are others.
_TOLERANCES = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-5, np.dtype(np.float16): 4e-3}


def cases() -> list[Case]:
    """A few of the standard's tests of each op, those of float32 first."""
    found: list[Case] = []
    for op in EXPANDED:
        of_op = [case for case in node_cases() if case.in_scope and case.op == ("", op)]
        direct = [case for case in of_op if any(node.op_type == op for node in case.model.graph.node)]
        plain = [c for c in direct if c.data[0][1][0].dtype in (np.float32, np.float16)]
        found += plain[:: max(1, len(plain) // 12)]
    return found


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_body_computes_what_the_standard_expects(case: Case) -> None:
    graph = clean(Graph(ir.from_proto(case.model)))
    assert not any(node.op_type in EXPANDED for node in graph.nodes)
    inputs, expected = case.data[0]
    given = dict(zip([value.name for value in case.model.graph.input], inputs, strict=True))
    results = to_torch(graph)(*(torch.from_numpy(np.array(given[str(value.name)])) for value in graph.inputs))
    results = results if isinstance(results, tuple) else (results,)
    for tensor, wanted in zip(results, expected, strict=True):
        tolerance = _TOLERANCES.get(wanted.dtype, 0.0)
        np.testing.assert_allclose(tensor.numpy(), wanted, rtol=tolerance, atol=tolerance)


def attention(**attributes: object) -> onnx.ModelProto:
    def value(name: str, shape: list[int] | None) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    # Each operand comes from a layer of its own, as a projection does.
    nodes = [helper.make_node("MatMul", [f"{x}_in", f"{x}_w"], [x], name=f"to_{x}") for x in "qkv"]
    nodes.append(helper.make_node("Attention", ["q", "k", "v"], ["y"], name="attention", **attributes))
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.normal(size=(8, 8)).astype(np.float32), f"{x}_w") for x in "qkv"]
    inputs = [value(f"{name}_in", [1, 2, 6, 8]) for name in "qkv"]
    graph = helper.make_graph(nodes, "g", inputs, [value("y", None)], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def test_both_products_of_an_attention_and_its_softmax_are_integer() -> None:
    graph = clean(Graph(ir.from_proto(attention())))
    units = decide(graph, Request()).units
    integer = [unit.op for unit in units if unit.integer]
    assert integer.count("MatMul") == 5
    assert "Softmax" in integer
    rng = np.random.default_rng(0)
    samples = [rng.normal(size=(1, 2, 6, 8)).astype(np.float32) for _ in "qkv"]
    network = Network.of(graph, samples)
    real = network.plan.activations["y"].dequantize(network.litert(samples).astype(np.int64))
    exact = to_torch(graph)(*map(torch.from_numpy, samples)).numpy()
    assert ((real - exact) ** 2).mean() < 1e-3 * (exact**2).mean()
    assert tflite.audit(tflite.export(graph, network.plan), graph, network.plan).problems == ()


def test_what_onnx_does_not_expand_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no types\nat all")

    monkeypatch.setitem(expand_functions.__globals__, "_body", fail)
    with pytest.raises(ModelError, match=r"'attention' \(Attention\): the standard gives it no body \(no types\)"):
        clean(Graph(ir.from_proto(attention())))


def test_what_does_nothing_is_left_out() -> None:
    nodes = [
        n("Add", "x zero", "a"), n("Where", "no other a", "b"), n("Where", "yes b other", "c"), n("Add", "c row", "d"),
        n("Concat", "d none", "e", axis=1), n("Mul", "e e"),
    ]  # fmt: skip
    constants = {
        "zero": np.zeros((1, 4), np.float32), "row": np.zeros((3, 1, 4), np.float32), "no": np.array([False, False]),
        "yes": np.array(True), "other": np.ones((2, 4), np.float32), "none": np.zeros((3, 0, 4), np.float32),
    }  # fmt: skip
    constants["no"] = np.array([[False], [False]])
    graph = graph_of(nodes, constants, (2, 4))
    # The sum with a row of zeros makes three of one: it stays.
    assert [node.op_type for node in graph.nodes] == ["Add", "Mul"]
    x = torch.randn(2, 4)
    torch.testing.assert_close(to_torch(graph)(x), (x * x).expand(3, 2, 4))
