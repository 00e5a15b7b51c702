"""The audit finds every way in which a file may differ from its plan."""

import re
from collections.abc import Callable
from dataclasses import replace

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgeq.exporters.tflite import audit, export
from edgeq.exporters.tflite.values import examine
from edgeq.graph.graph import Graph
from edgeq.graph.macs import macs
from edgeq.plan.plan import Plan

from .networks import NETWORKS, residual
from .single_op import integer_plan, samples


def _written() -> tuple[Graph, Plan, bytes]:
    graph = residual()
    plan = integer_plan(graph, samples(graph))
    return graph, plan, export(graph, plan)


def _changed(data: bytes, change: Callable[[schema.ModelT], None]) -> bytes:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(model: schema.ModelT, name: str) -> schema.TensorT:
    return next(t for t in model.subgraphs[0].tensors if t.name == name.encode())


def _flip_code(model: schema.ModelT, name: str) -> None:
    buffer = model.buffers[_tensor(model, name).buffer]
    buffer.data = np.array(buffer.data, np.uint8)
    buffer.data[0] ^= 1


def _scale(model: schema.ModelT, name: str) -> None:
    grid = _tensor(model, name).quantization
    grid.scale = [scale * 1.0001 for scale in grid.scale]


def _zero_point(model: schema.ModelT, name: str) -> None:
    grid = _tensor(model, name).quantization
    grid.zeroPoint = [zero + 1 for zero in grid.zeroPoint]


def _axis(model: schema.ModelT, name: str) -> None:
    _tensor(model, name).quantization.quantizedDimension = 3


def _dtype(model: schema.ModelT, name: str) -> None:
    _tensor(model, name).type = schema.TensorType.UINT8


def _rename(model: schema.ModelT, name: str) -> None:
    model.signatureDefs[0].inputs[0].name = "other"


@pytest.mark.parametrize(("change", "name", "problem"), [
    (_flip_code, "k0", "weight 'k0' does not hold the codes"),
    (_flip_code, "k11", "weight 'k11' does not hold the codes"),
    (_flip_code, "k1", "bias of unit 'n0' does not hold the codes"),
    (_scale, "k0", "weight 'k0' does not have the scales"),
    (_scale, "k1", "bias of unit 'n0' does not have the scales"),
    (_scale, "v1", "value 'v1' has scale"),
    (_zero_point, "v1", "value 'v1' has zero point"),
    (_axis, "k0", "weight 'k0' has its scales along axis 3 instead of 0"),
    (_dtype, "v1", "value 'v1' is uint8 instead of int8"),
    (_dtype, "k0", "weight 'k0' is uint8 instead of int8"),
    (_scale, "x0", "input 'x0' has scale"),
    (_rename, "x0", r"inputs are \['other'\] instead of \['x0'\]"),
])  # fmt: skip
def test_a_difference_is_a_problem(change: Callable[[schema.ModelT, str], None], name: str, problem: str) -> None:
    graph, plan, data = _written()
    assert audit(data, graph, plan).problems == ()
    assert audit(_changed(data, lambda model: None), graph, plan).problems == ()
    problems = audit(_changed(data, lambda model: change(model, name)), graph, plan).problems
    assert problems
    assert any(re.search(problem, found) for found in problems), problems


def test_float_where_the_plan_says_integer_is_a_problem() -> None:
    graph, plan, _ = _written()
    problems = audit(export(graph, None), graph, plan).problems
    assert any("is integer in the plan, but CONV_2D computes on real numbers" in problem for problem in problems)


def test_integer_where_the_plan_says_float_is_a_problem() -> None:
    graph, plan, data = _written()
    units = tuple(replace(unit, integer=False) for unit in plan.units)
    problems = audit(data, graph, replace(plan, skeleton=replace(plan.skeleton, units=units))).problems
    assert any("is float in the plan, but CONV_2D computes on codes" in problem for problem in problems)


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_the_macs_of_the_graph(name: str) -> None:
    graph = NETWORKS[name]()
    plan = integer_plan(graph, samples(graph))
    report = audit(export(graph, plan), graph, plan)
    assert report.total_macs == sum(macs(graph, examine(graph).shapes).values())
    assert report.integer_mac_share == 1.0
    assert audit(export(graph, None), graph, None).integer_mac_share == 0.0


def test_rows_tell_op_type_axis_and_reason() -> None:
    graph, plan, data = _written()
    report = audit(data, graph, plan)
    rows = {row.unit: row for row in report.rows}
    assert (rows["n0"].op, rows["n0"].dtype, rows["n0"].axis, rows["n0"].reason) == ("CONV_2D", "int8", 0, "")
    assert report.inputs == {"x0": "int8"}
    assert report.size_bytes == len(data)
    assert audit(export(graph, plan, io="float32"), graph, plan).inputs == {"x0": "float32"}


def test_values_that_are_called_like_steps_are_found() -> None:
    graph = residual().clone()
    for node in graph.nodes:
        for value in node.outputs:
            value.name = f"onnx::{node.op_type}_{value.name}"  # as the older of PyTorch's exporters names them
    plan = integer_plan(graph, samples(graph))
    report = audit(export(graph, plan), graph, plan)
    assert report.problems == ()
    assert report.integer_mac_share == 1.0
