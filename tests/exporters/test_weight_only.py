"""Weight-only formats in both files: what is stored, that it is the plan's, and what the runtimes compute with it."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from ai_edge_litert import interpreter as litert

from edgeq.calibration.methods import METHODS, method
from edgeq.calibration.ranges import Ranges
from edgeq.errors import PlanError
from edgeq.exporters import onnx as onnx_format
from edgeq.exporters import tflite as tflite_format
from edgeq.exporters.onnx.audit import optimized_graph
from edgeq.graph.execute import shapes, to_torch
from edgeq.graph.graph import Graph
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan
from edgeq.plan.rules import Request, decide
from edgeq.plan.store import dump, restore
from edgeq.plan.validate import validate
from edgeq.simulate import Simulation

from ..graphs import graph_of, n, weights

X = np.random.default_rng(0).normal(size=(128, 64)).astype(np.float32)
HYBRID = frozenset({Bits(8, None), Bits(4, None), *(Bits(4, None, block) for block in (32, 64, 128))})
NOTHING = Ranges({}, {}, 0, "")


def layers() -> Graph:
    """Gemm with transB and a ReLU, MatMul, bias and ReLU, MatMul whose 44 inputs fit no block."""
    nodes = [
        n("Gemm", "x a p", "g", transB=1), n("Relu", "g", "r"), n("MatMul", "r b", "m"), n("Add", "m q", "s"),
        n("Relu", "s", "t"), n("MatMul", "t c"),
    ]  # fmt: skip
    drawn = weights(a=(128, 64), p=(128,), b=(128, 44), q=(44,), c=(44, 10))
    # Few large numbers among many small ones: at 2 and 3 bits such channels need a zero.
    drawn["a"][::3, 8:] /= 50
    drawn["b"][8:, ::3] /= 50
    return graph_of(nodes, {key: array / 8 for key, array in drawn.items()}, ("n", 64), outputs="y")


GRAPH = layers()


def planned(bits: str, name: str = "nearest", graph: Graph = GRAPH) -> Plan:
    return method(name)(
        graph, decide(graph, Request(Bits.parse(bits))), NOTHING, [(part,) for part in torch.from_numpy(X).split(32)]
    )


def simulated(graph: Graph, plan: Plan) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        found: npt.NDArray[np.float32] = Simulation(graph, plan)(torch.from_numpy(X)).numpy()
    return found


def on_onnxruntime(data: bytes, level: str) -> npt.NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", level)
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": X})[0])


def on_litert(data: bytes) -> npt.NDArray[np.float32]:
    interpreter = litert.Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    taken, given = (
        details()[0]["index"] for details in (interpreter.get_input_details, interpreter.get_output_details)
    )
    found = []
    for row in X:
        interpreter.set_tensor(taken, row[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(given)[0])
    return np.array(found)


def relative(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    return float(((found - expected) ** 2).mean() / expected.var())


@pytest.mark.parametrize("name", ["nearest", "statistics", "gptq"])
@pytest.mark.parametrize("bits", ["w8", "w5", "w4", "w3", "w2", "w4b32", "w3b64", "w2b128"])
def test_both_files_hold_the_plan_and_compute_what_the_simulation_does(bits: str, name: str) -> None:
    plan = planned(bits, name)
    validate(GRAPH, plan)
    few = name != "nearest" and bits[1] in "23"
    parities = [constant.quantization.parity for constant in plan.weights.values()]
    assert all((parity is not None) == few for parity in parities)
    assert not few or {int(p) for parity in parities if parity is not None for p in np.unique(parity)} == {0, 1}
    expected = simulated(GRAPH, plan)
    file = onnx_format.export(GRAPH, plan)
    onnx.checker.check_model(onnx.load_model_from_string(file), full_check=True)
    audit = onnx_format.audit(file, GRAPH, plan, shapes(GRAPH, to_torch(GRAPH)))
    narrow = Bits.parse(bits).weights in (2, 3, 4)
    assert audit.problems == ()
    assert {row.dtype for row in audit.rows} == {"int4" if narrow else "int8"}
    # In float32, sums of up to 128 numbers near one in another order.
    np.testing.assert_allclose(on_onnxruntime(file, "1"), expected, rtol=1e-4, atol=1e-4)
    # As it is by default: activations are quantized on the way to 8 bits, block by block.
    assert relative(on_onnxruntime(file, "4"), expected) < 1e-3
    written = tflite_format.build(GRAPH, plan, hybrid=HYBRID)
    assert tflite_format.audit(written.data, GRAPH, plan).problems == ()
    assert relative(on_litert(written.data), expected) < 1e-3


@pytest.mark.parametrize("bits", ["w8", "w4", "w2", "w4b64"])
def test_every_product_is_one_that_onnxruntime_multiplies_with_codes(bits: str) -> None:
    ops = [node.op_type for node in optimized_graph(onnx_format.export(GRAPH, planned(bits))).graph.node]
    assert ops.count("MatMulNBits") == 3
    assert not {"DequantizeLinear", "MatMul", "Gemm", "FusedGemm"} & set(ops)


def test_packed_codes_take_an_eighth_and_blocks_a_little_more() -> None:
    numbers = sum(constant.codes.size for constant in planned("w4").weights.values())
    sizes = {bits: len(onnx_format.export(GRAPH, planned(bits))) for bits in ("w8", "w4", "w4b32")}
    files = {bits: len(tflite_format.build(GRAPH, planned(bits), hybrid=HYBRID).data) for bits in sizes}
    for found in (sizes, files):
        assert 0.45 * numbers < found["w8"] - found["w4"] < 0.55 * numbers
        assert max(found["w4"], found["w4b32"]) < found["w8"]
    assert sizes["w4"] < sizes["w4b32"]
    assert len(onnx_format.export(GRAPH, None)) > 5 * sizes["w4"]


def test_without_hybrid_kernels_codes_are_dequantized_in_the_file_and_nothing_is_rounded_anew() -> None:
    plan = planned("w4")
    written = tflite_format.build(GRAPH, plan)
    assert tflite_format.audit(written.data, GRAPH, plan).problems == ()
    np.testing.assert_allclose(on_litert(written.data), simulated(GRAPH, plan), rtol=1e-4, atol=1e-4)


def test_blocks_without_a_kernel_for_them_are_refused() -> None:
    with pytest.raises(PlanError, match="scales for blocks of 32, which the TFLite kernels of a device do not take"):
        tflite_format.build(GRAPH, planned("w4b32"), hybrid=frozenset({Bits(4, None)}))


def test_a_weight_that_no_block_divides_has_a_scale_per_channel() -> None:
    plan = planned("w4b32")
    assert {unit.weight: str(plan.skeleton.bits[unit.name]) for unit in plan.units} == {
        "a": "w4b32", "b": "w4b32", "c": "w4",
    }  # fmt: skip
    assert plan.weights["a"].quantization.scale.shape == (128, 2)
    assert plan.weights["b"].quantization.scale.shape == (4, 44)
    assert plan.weights["c"].quantization.scale.shape == (10,)


@pytest.mark.parametrize("each", METHODS, ids=lambda m: m.name)
def test_every_method_keeps_blocks_and_is_no_worse_than_nearest(each: object) -> None:
    name = str(getattr(each, "name", ""))
    plan = planned("w3b32", name)
    validate(GRAPH, plan)
    skeleton = plan.skeleton
    assert dump(restore(dump(plan), skeleton)) == dump(plan)
    for constant in plan.weights.values():
        scale = constant.quantization.scale
        if constant.quantization.block:  # as LiteRT stores it
            np.testing.assert_array_equal(scale, scale.astype(np.float16).astype(np.float32))
    with torch.no_grad():
        real = to_torch(GRAPH)(torch.from_numpy(X)).numpy()
    errors = [relative(simulated(GRAPH, planned("w3b32", each)), real) for each in (name, "nearest")]
    assert errors[0] <= errors[1] * (1 + 1e-9)
    again = Simulation(GRAPH, plan).plan()
    assert all((again.weights[value].codes == constant.codes).all() for value, constant in plan.weights.items())


@pytest.mark.parametrize("name", ["nearest", "statistics", "gptq"])
def test_blocks_serve_weights_whose_channels_are_uneven(name: str) -> None:
    uneven = GRAPH.clone()
    for value in ("a", "b"):
        array = np.array(GRAPH.constant(value))
        axis = 1 if value == "a" else 0
        factors = np.repeat(10.0 ** np.arange(array.shape[axis] // 32), 32)
        array *= factors[None] if axis else factors[:, None]
        uneven.value(value).const_value = _tensor(array.astype(np.float32), value)
    graph = Graph(uneven.model)
    real = to_torch(graph)(torch.from_numpy(X)).detach().numpy()
    fine, coarse = (relative(simulated(graph, planned(bits, name, graph)), real) for bits in ("w4b32", "w4"))
    assert fine < coarse


def _tensor(array: npt.NDArray[np.float32], value: str) -> object:
    import onnx_ir as ir

    return ir.tensor(array, name=value)


def _damaged(plan: Plan, change: Callable[[npt.NDArray[np.int8]], None]) -> Plan:
    from dataclasses import replace

    codes = plan.weights["a"].codes.copy()
    change(codes)
    return replace(plan, weights={**plan.weights, "a": replace(plan.weights["a"], codes=codes)})


@pytest.mark.parametrize("bits", ["w8", "w4", "w4b32"])
def test_the_audits_see_a_code_and_a_scale_that_are_not_the_plans(bits: str) -> None:
    plan = planned(bits)
    other = _damaged(plan, lambda codes: codes.__setitem__((0, 0), 1 if codes[0, 0] != 1 else 2))
    shown = shapes(GRAPH, to_torch(GRAPH))
    assert "codes differ" in str(onnx_format.audit(onnx_format.export(GRAPH, other), GRAPH, plan, shown).problems)
    for hybrid in (HYBRID, frozenset()) if "b" not in bits else (HYBRID,):
        written = tflite_format.build(GRAPH, other, hybrid=hybrid)
        assert "does not hold the codes" in str(tflite_format.audit(written.data, GRAPH, plan).problems)
    from dataclasses import replace

    grid = plan.weights["a"].quantization
    wider = replace(plan.weights["a"], quantization=replace(grid, scale=grid.scale * np.float32(2)))
    other = replace(plan, weights={**plan.weights, "a": wider})
    assert "scale differs" in str(onnx_format.audit(onnx_format.export(GRAPH, other), GRAPH, plan, shown).problems)
    written = tflite_format.build(GRAPH, other, hybrid=HYBRID)
    assert "does not have the scales" in str(tflite_format.audit(written.data, GRAPH, plan).problems)


def test_an_older_operator_set_is_raised_without_changing_what_ops_mean() -> None:
    nodes = [n("MatMul", "x a", "m"), n("Split", "m", "s t", axis=1), n("Add", "s t", "u")]
    nodes.append(n("ReduceMean", "u", "y", axes=[1], keepdims=0))
    graph = graph_of(nodes, weights(a=(64, 32)), ("n", 64), outputs="y", opset=13)
    plan = planned("w4", graph=graph)
    file = onnx_format.export(graph, plan)
    assert onnx.load_model_from_string(file).opset_import[0].version == 21
    np.testing.assert_allclose(on_onnxruntime(file, "1"), simulated(graph, plan), rtol=1e-4, atol=1e-4)


def test_an_op_that_would_mean_something_else_is_refused() -> None:
    nodes = [n("MatMul", "x a", "m"), n("GroupNormalization", "m k l", "y", num_groups=2)]
    constants = weights(a=(64, 8)) | {"k": np.ones(2, np.float32), "l": np.zeros(2, np.float32)}
    graph = graph_of(nodes, constants, ("n", 64), outputs="y", opset=18)
    with pytest.raises(PlanError, match="GroupNormalization of operator set 18 means something else in 21"):
        onnx_format.export(graph, planned("w4", graph=graph))
