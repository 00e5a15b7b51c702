"""The QDQ file: integer kernels for everything that the plan calls integer, the plan's numbers, the plan's meaning."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.errors import ModelError
from edgeq.exporters.audit import Audit
from edgeq.exporters.onnx import audit, export
from edgeq.exporters.onnx.audit import optimized_graph
from edgeq.graph.execute import shapes, to_torch
from edgeq.graph.graph import Graph, name
from edgeq.plan.bits import FLOAT, Bits
from edgeq.plan.plan import Plan
from edgeq.plan.rules import Request, decide
from edgeq.simulate import Simulation

from ...graphs import graph_of, n, weights

Array = npt.NDArray[Any]
X = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
NODES = [
    n("Conv", "x w b", "c", pads=[1, 1, 1, 1]), n("Relu", "c", "r"), n("Conv", "r d", "e", group=8, pads=[1, 1, 1, 1]),
    n("Add", "e r", "s"), n("Pad", "s pads", "p"), n("MaxPool", "p", "m", kernel_shape=[2, 2], strides=[2, 2]),
    n("GlobalAveragePool", "m", "g"), n("Flatten", "g", "f"), n("Gemm", "f v h"),
]  # fmt: skip
CONSTANTS = weights(w=(8, 3, 3, 3), b=(8,), d=(8, 1, 3, 3), v=(8, 5), h=(5,)) | {
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])
}


def planned(graph: Graph, **request: Any) -> Plan:
    skeleton = decide(graph, Request(**request))
    return nearest(graph, skeleton, observe(to_torch(graph), [(torch.from_numpy(X),)], skeleton))


@pytest.fixture(scope="module")
def graph() -> Graph:
    return graph_of(NODES, CONSTANTS)


@pytest.fixture(scope="module")
def plan(graph: Graph) -> Plan:
    return planned(graph)


def audited(data: bytes, graph: Graph, plan: Plan) -> Audit:
    return audit(data, graph, plan, shapes(graph, to_torch(graph)))


def outputs(data: bytes, optimize: bool = True) -> Array:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    result: Array = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, {"x": X})[
        0
    ]
    return result


@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_the_file_is_valid_and_what_was_planned(graph: Graph, plan: Plan, activations: Any) -> None:
    data = export(graph, plan, activations=activations)
    onnx.checker.check_model(onnx.load_model_from_string(data), full_check=True)
    found = audited(data, graph, plan)
    if activations == "uint8":
        assert found.problems == ()
        assert found.integer_mac_share == 1.0
        assert [row.axis for row in found.rows if row.dtype == "int8"] == [0, 0, 1]
    assert found.inputs == {"x": "float"}
    assert export(graph, plan, activations=activations) == data


def test_everything_runs_in_integer_kernels(graph: Graph, plan: Plan) -> None:
    ops = [node.op_type for node in optimized_graph(export(graph, plan)).graph.node]
    assert ops.count("QLinearConv") == 2
    for op in ("QLinearAdd", "QLinearGlobalAveragePool", "QGemm"):
        assert op in ops
    assert not {"Conv", "Add", "Gemm", "Relu", "GlobalAveragePool"} & set(ops)
    assert ops.count("QuantizeLinear") == ops.count("DequantizeLinear") == 1


def test_inputs_and_outputs_keep_their_names_types_and_shapes(graph: Graph, plan: Plan) -> None:
    session = onnxruntime.InferenceSession(export(graph, plan), providers=["CPUExecutionProvider"])
    assert [(v.name, v.type, v.shape[1:]) for v in session.get_inputs()] == [("x", "tensor(float)", [3, 8, 8])]
    assert [(v.name, v.type, v.shape[1:]) for v in session.get_outputs()] == [("y", "tensor(float)", [5])]


@pytest.mark.parametrize("bits", ["w8a8", "w4a8", "w2a8", "w4a4", "w8a4", "w8a16", "w4"])
def test_the_file_means_what_the_simulation_computes(graph: Graph, bits: str) -> None:
    plan = planned(graph, bits=Bits.parse(bits))
    with torch.no_grad():
        simulated = Simulation(graph, plan)(torch.from_numpy(X)).numpy()
    # No optimizer: pairs in float32, as the simulation; sums in another order may move a value by one step, rarely.
    deployed = outputs(export(graph, plan), optimize=False)
    grid = plan.activations.get("y")
    step = float(grid.scale) if grid is not None else float(np.ptp(simulated)) / 255
    assert np.abs(simulated - deployed).max() <= 1.01 * step
    assert (np.abs(simulated - deployed) > 0.01 * step).mean() < 0.05


def test_uint8_and_int8_are_one_grid(graph: Graph, plan: Plan) -> None:
    unsigned, signed = (outputs(export(graph, plan, activations=kind), optimize=False) for kind in ("uint8", "int8"))
    assert np.array_equal(unsigned, signed)


def test_the_float_model_stays_itself(graph: Graph) -> None:
    with torch.no_grad():
        expected = to_torch(graph)(torch.from_numpy(X)).numpy()
    # Sums in another order. Without the optimizer: ONNX Runtime 1.31's moves this Pad's zeros into the MaxPool, where
    # they are minus infinity.
    assert np.allclose(outputs(export(graph, None), optimize=False), expected, rtol=1e-4, atol=1e-5)


def test_float_layers_stay_float(graph: Graph) -> None:
    plan = planned(graph, overrides=[("Conv_c", FLOAT)])
    data = export(graph, plan)
    found = audited(data, graph, plan)
    assert found.problems == ()
    assert {row.unit: row.reason for row in found.rows if not row.integer} == {"Conv_c": "left in float as asked"}
    assert 0 < found.integer_mac_share < 1


def test_a_clamp_that_the_grid_does_not_make() -> None:
    # The concatenation's grid reaches below zero, so saturation alone is no ReLU.
    nodes = [n("Conv", "x w b", "c"), n("Relu", "c", "r"), n("Conv", "x w b", "d"), n("Concat", "r d", axis=1)]
    graph = graph_of(nodes, weights(w=(8, 3, 3, 3), b=(8,)))
    plan = planned(graph)
    assert float(plan.activations["r"].dequantize(np.array(plan.activations["r"].qmin))) < -1
    result = outputs(export(graph, plan))
    assert result[:, :8].min() == 0.0
    assert result[:, 8:].min() < -1


def test_a_value_that_a_float_op_reads_too() -> None:
    nodes = [n("Conv", "x w b", "c"), n("Relu", "c", "r"), n("Erf", "r", "z"), n("MaxPool", "r", kernel_shape=[2, 2])]
    graph = graph_of(nodes, weights(w=(8, 3, 3, 3), b=(8,)), outputs="y z")
    plan = planned(graph)
    data = export(graph, plan)
    assert audited(data, graph, plan).problems == ()
    with torch.no_grad():
        simulated = [part.numpy() for part in Simulation(graph, plan)(torch.from_numpy(X))]
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for expected, found in zip(simulated, session.run(None, {"x": X}), strict=True):
        assert np.abs(expected - found).max() <= float(plan.activations["y"].scale) * 1.01


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_a_matrix_product_is_an_integer_gemm(bias: bool, relu: bool) -> None:
    nodes = [n("MatMul", "x m", "p"), *([n("Add", "p b", "s")] if bias else [])]
    last = nodes[-1].output[0]
    nodes += [n("Relu", last)] if relu else []
    graph = graph_of(nodes, weights(m=(192, 7), b=(7,)), ("n", 192), outputs="y" if relu else last)
    skeleton = decide(graph, Request())
    x = X.reshape(16, 192)
    plan = nearest(graph, skeleton, observe(to_torch(graph), [(torch.from_numpy(x),)], skeleton))
    data = export(graph, plan)
    assert [node.op_type for node in optimized_graph(data).graph.node] == [
        "QuantizeLinear",
        "QGemm",
        "DequantizeLinear",
    ]
    assert audited(data, graph, plan).problems == ()


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("shape", [("n", 8, 24), (4, 4, 4, 24)])
def test_a_biased_product_of_sequences_is_one_integer_gemm(shape: tuple[str | int, ...], relu: bool) -> None:
    # Added in float after the product, the bias would round otherwise than in the accumulator.
    nodes = [n("MatMul", "x m", "p"), n("Add", "p b", "s"), *([n("Relu", "s")] if relu else [])]
    graph = graph_of(nodes, weights(m=(24, 7), b=(7,)), shape, outputs="y" if relu else "s")
    skeleton = decide(graph, Request())
    x = X.reshape(-1, *(int(size) for size in shape[1:]))
    fixed = x[:4] if shape[0] == 4 else x
    plan = nearest(graph, skeleton, observe(to_torch(graph), [(torch.from_numpy(fixed),)], skeleton))
    data = export(graph, plan)
    runs = [node.op_type for node in optimized_graph(data).graph.node]
    assert runs == ["QuantizeLinear", "Reshape", "QGemm", "Reshape", "DequantizeLinear"]
    assert audited(data, graph, plan).problems == ()
    # The output keeps the name and the shape.
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    output = name(graph.outputs[0])
    assert session.get_outputs()[0].name == output
    assert session.run([output], {"x": fixed})[0].shape == (*fixed.shape[:-1], 7)


# The audit must notice.


def _initializer(model: onnx.ModelProto, key: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == key)


def _nudge(key: str, amount: float) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = _initializer(model, key)
        array = numpy_helper.to_array(tensor).copy()
        array.flat[0] = array.flat[0] + array.dtype.type(amount)
        tensor.CopyFrom(numpy_helper.from_array(array, key))

    return change


def _remove_pair(model: onnx.ModelProto) -> None:
    # The convolution's output is no longer quantized: it falls back to float.
    source = next(node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[1] == "r_scale")
    after = next(
        node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] == source.output[0]
    )
    identity = helper.make_node("Identity", [source.input[0]], [after.output[0]])
    model.graph.node.remove(source)
    model.graph.node.remove(after)
    model.graph.node.append(identity)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_nudge("w_codes", 1), "w: the file's codes differ"),
        (_nudge("w_scale", 1e-3), "w: the file's scale differs"),
        (_nudge("Conv_c_bias_codes", 1), "Conv_c_bias: the file's codes differ"),
        (_nudge("r_scale", 1e-3), "value r: the file's scale differs|r: the file's scale differs"),
        (_nudge("s_zero_point", 1), "s: the file's zero point differs"),
    ],
)
def test_the_audit_tells_of_a_changed_number(graph: Graph, plan: Plan, change: Any, said: str) -> None:
    model = onnx.load_model_from_string(export(graph, plan))
    change(model)
    problems = audited(model.SerializeToString(), graph, plan).problems
    assert len(problems) >= 1
    assert any(part in problem for problem in problems for part in said.split("|")), problems


def test_the_audit_tells_of_a_layer_that_fell_back_to_float(graph: Graph, plan: Plan) -> None:
    model = onnx.load_model_from_string(export(graph, plan))
    _remove_pair(model)
    native = ir.from_proto(model)
    native.graph.sort()
    found = audited(ir.to_proto(native).SerializeToString(), graph, plan)
    assert found.integer_mac_share < 1.0
    assert any("value r: no pair" in problem for problem in found.problems)
    assert any("ONNX Runtime runs it as" in problem for problem in found.problems)


def test_a_file_that_the_runtime_does_not_load(graph: Graph, plan: Plan) -> None:
    model = onnx.load_model_from_string(export(graph, plan))
    model.graph.node[0].op_type = "NoSuchOp"
    with pytest.raises(ModelError, match="ONNX Runtime does not load"):
        audited(model.SerializeToString(), graph, plan)


def test_names_of_the_model_survive(graph: Graph, plan: Plan) -> None:
    model = onnx.load_model_from_string(export(graph, plan))
    names = {node.name for node in model.graph.node}
    assert {name(node) for node in graph.nodes if node.op_type in ("Conv", "Gemm", "Add")} <= names
