"""Layouts, mixed formats and delegation, on small networks."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert import interpreter as litert

from edgeq.errors import UnsupportedOpError
from edgeq.exporters.tflite import Export, audit, build, export, read
from edgeq.graph.graph import Graph
from edgeq.plan.bits import FLOAT, Bits
from edgeq.plan.plan import Plan

from .networks import NETWORKS, Net, attention, detector, residual, sequence, squeeze_excite, upsampler
from .single_op import DEFAULT, REFERENCE, codes, integer_plan, real, run, samples

#: Networks in which no two ops disagree about the order of elements.
WITHOUT_TRANSPOSE = ("residual", "squeeze-excite", "detector", "sequence", "upsampler", "shared query")


def _snr(signal: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10((signal**2).sum() / ((signal - found) ** 2).sum()))


def _used(data: bytes) -> list[str]:
    return [operator.code for operator in read(data).operators]


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("name", NETWORKS)
def test_float_network(name: str, layout: Any) -> None:
    graph = NETWORKS[name]()
    inputs = samples(graph)
    expected = real(graph, inputs)
    written = build(graph, None, layout=layout)
    for kernels in (DEFAULT, REFERENCE):
        found = run(written, {"x0": inputs[0].numpy()}, kernels)
        for key, array in expected.items():
            # Sums of up to a few hundred products in another order.
            np.testing.assert_allclose(found[key], array, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("io", ["int8", "float32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_integer_network(name: str, io: Any) -> None:
    graph = NETWORKS[name]()
    inputs = samples(graph)
    expected = real(graph, inputs)
    plan = integer_plan(graph, inputs)
    written = build(graph, plan, io=io)
    report = audit(written.data, graph, plan)
    assert report.problems == ()
    assert report.integer_mac_share == 1.0
    feeds = codes(plan, graph, inputs) if io == "int8" else {"x0": inputs[0].numpy()}
    found, reference = (run(written, feeds, kernels) for kernels in (DEFAULT, REFERENCE))
    for key, array in expected.items():
        grid = plan.activations[key]
        result = grid.dequantize(found[key].astype(np.int64)) if io == "int8" else found[key]
        assert result.dtype == np.float32
        assert _snr(array, result) > 22
        if io == "int8":
            # Kernel families round differently; a difference of one step may pass through a few layers.
            assert np.abs(found[key].astype(int) - reference[key].astype(int)).max() <= 2


@pytest.mark.parametrize("name", WITHOUT_TRANSPOSE)
def test_no_transpose_is_left(name: str) -> None:
    graph = NETWORKS[name]()
    for written in (build(graph, None), build(graph, integer_plan(graph, samples(graph)))):
        assert written.notes == ()
        assert "TRANSPOSE" not in _used(written.data)


def test_a_transpose_that_stays_is_noted_with_its_reason() -> None:
    written = build(attention(), None)
    assert _used(written.data).count("TRANSPOSE") == len(written.notes) > 0
    assert all("transpose of" in note and "MatMul" in note for note in written.notes)


def test_nchw_input_costs_one_transpose() -> None:
    written = build(residual(), None, layout="NCHW")
    assert written.layouts["x0"] == (0, 1, 2, 3)
    assert _used(written.data).count("TRANSPOSE") == 1


@pytest.mark.parametrize("make", [residual, sequence, upsampler])
def test_default_delegate_takes_the_whole_network(make: Any) -> None:
    graph = make()
    for written in (build(graph, None), build(graph, integer_plan(graph, samples(graph)))):
        assert _delegated_whole(written)


def _delegated_whole(written: Export) -> bool:
    interpreter = litert.Interpreter(model_content=written.data, num_threads=1)
    interpreter.allocate_tensors()
    delegates = [op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    ends = {detail["index"] for detail in interpreter.get_output_details()}
    starts = {detail["index"] for detail in interpreter.get_input_details()}
    return (
        len(delegates) == 1
        and starts <= set(delegates[0]["inputs"].tolist())
        and ends <= set(delegates[0]["outputs"].tolist())
    )


def test_the_same_plan_gives_the_same_bytes() -> None:
    graph = squeeze_excite()
    plan = integer_plan(graph, samples(graph))
    assert export(graph, plan) == export(squeeze_excite_again(graph), plan)


def squeeze_excite_again(graph: Graph) -> Graph:
    return graph.clone()


def _mixed(graph: Graph, float_ops: tuple[str, ...]) -> Plan:
    """An integer plan of which some ops are then left in float."""
    plan = integer_plan(graph, samples(graph))
    units = tuple(
        replace(unit, integer=unit.op not in float_ops, reason="left in float" if unit.op in float_ops else "integer")
        for unit in plan.units
    )
    quantized = {v for unit in units if unit.integer for v in (*unit.inputs, *unit.outputs)}
    bits = {unit.name: plan.skeleton.bits[unit.name] if unit.integer else FLOAT for unit in units}
    skeleton = replace(plan.skeleton, units=units, bits=bits)
    return replace(plan, skeleton=skeleton, activations={v: g for v, g in plan.activations.items() if v in quantized})


@pytest.mark.parametrize(("make", "float_ops"), [
    (squeeze_excite, ("HardSwish", "Sigmoid")),
    (residual, ("Add", "Slice")),
    (attention, ("Softmax",)),
    (detector, ("Softmax", "Concat")),
    (upsampler, ("ConvTranspose",)),
])  # fmt: skip
def test_mixed_network_quantizes_between_its_parts(make: Any, float_ops: tuple[str, ...]) -> None:
    graph = make()
    plan = _mixed(graph, float_ops)
    inputs = samples(graph)
    expected = real(graph, inputs)
    written = build(graph, plan, io="float32")
    report = audit(written.data, graph, plan)
    assert report.problems == ()
    assert {"QUANTIZE", "DEQUANTIZE"} <= set(_used(written.data))
    assert {row.op for row in report.rows if not row.integer and row.op != "none needed"}
    found = run(written, {"x0": inputs[0].numpy()})
    for key, array in expected.items():
        assert _snr(array, found[key]) > 22


@pytest.mark.parametrize("make", [residual, squeeze_excite, sequence])
def test_sixteen_bit_activations(make: Any) -> None:
    graph = make()
    inputs = samples(graph)
    plan = integer_plan(graph, inputs, Bits(8, 16))
    written = build(graph, plan)
    assert audit(written.data, graph, plan).problems == ()
    found = run(written, codes(plan, graph, inputs))
    for key, array in real(graph, inputs).items():
        assert found[key].dtype == np.int16
        # The weights are all that is coarse.
        assert _snr(array, plan.activations[key].dequantize(found[key].astype(np.int64))) > 32


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_few_bit_weights_lie_in_int8_and_run_as_fast(bits: int) -> None:
    graph = residual()
    inputs = samples(graph)
    plan = integer_plan(graph, inputs, Bits(bits, 8))
    written = build(graph, plan)
    report = audit(written.data, graph, plan)
    assert report.problems == ()
    assert {row.dtype for row in report.rows if row.axis is not None} == {"int8"}
    assert _delegated_whole(written)


def test_packed_int4_is_smaller_and_computes_the_same() -> None:
    net = Net((1, 64))
    graph = net.graph(net.add("Gemm", "x0", net.weight(32, 64), net.weight(32), transB=1))
    inputs = samples(graph)
    plan = integer_plan(graph, inputs, Bits(4, 8))
    plain, packed = build(graph, plan), build(graph, plan, packed_int4=True)
    assert len(packed.data) < len(plain.data) - 900
    assert audit(packed.data, graph, plan).problems == ()
    feeds = codes(plan, graph, inputs)
    np.testing.assert_array_equal(run(plain, feeds)["v0"], run(packed, feeds)["v0"])


def test_weight_only_computes_in_float_on_the_plans_weights() -> None:
    graph = residual()
    inputs = samples(graph)
    plan = integer_plan(graph, inputs)
    units = tuple(replace(unit, integer=False, reason="weight-only w8") for unit in plan.units)
    bits = {unit.name: Bits(8, None) for unit in units}
    weights_only = replace(
        plan, skeleton=replace(plan.skeleton, units=units, bits=bits, groups={}), activations={}, biases={}
    )
    written = build(graph, weights_only)
    assert {row.integer for row in audit(written.data, graph, weights_only).rows} == {False}
    changed = graph.clone()
    import onnx_ir as ir

    for key, weight in plan.weights.items():
        changed.value(key).const_value = ir.tensor(weight.real, name=key)
    found = run(written, {"x0": inputs[0].numpy()})
    for key, array in real(changed, inputs).items():
        np.testing.assert_allclose(found[key], array, rtol=1e-4, atol=1e-4)
    assert len(written.data) < len(export(graph, None))


def test_an_op_without_tflite_form_is_named() -> None:
    net = Net((3, 3))
    graph = net.graph(net.add("Det", "x0"))
    with pytest.raises(UnsupportedOpError, match=r"does not write Det \(node 'n0'\)"):
        export(graph, None)


def test_an_attention_mask_of_the_most_negative_number_does_not_abort_the_process() -> None:
    net = Net((1, 6, 6), (1, 6, 6))
    graph = net.graph(net.add("Softmax", net.add("Add", "x0", "x1"), axis=-1))
    scores = samples(graph)[0]
    mask = torch.triu(torch.full((1, 6, 6), torch.finfo(torch.float32).min), 1)
    plan = integer_plan(graph, (scores, mask))
    written = build(graph, plan)
    assert [note.split(" is computed")[0] for note in written.notes] == ["Add 'n0'", "Softmax 'n1'"]
    assert audit(written.data, graph, plan).problems
    raw = run(written, codes(plan, graph, (scores, mask)))["v1"]
    found = plan.activations["v1"].dequantize(raw.astype(np.int64))
    expected = real(graph, (scores, mask))["v1"]
    # The scores lost less than a step of their 8 bits; probabilities move by about as much.
    np.testing.assert_allclose(found, expected, atol=0.02)
