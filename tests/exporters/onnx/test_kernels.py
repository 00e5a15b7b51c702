"""What ONNX Runtime computes on codes and what on real numbers: the table, the profiles and the runtime agree."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.devices import list_profiles, load_profile
from edgeq.exporters.audit import Audit
from edgeq.exporters.onnx import audit, export
from edgeq.exporters.onnx.audit import FLOAT_KERNELS
from edgeq.graph.execute import shapes, to_torch
from edgeq.plan.ops import INTEGER
from edgeq.plan.rules import Request, decide

from ...graphs import graph_of, n, weights

X = np.random.default_rng(0).normal(size=(8, 4, 8, 8)).astype(np.float32)
CONSTANTS = weights(w=(4, 4, 3, 3), v=(4, 4, 3, 3), slope=(4, 1, 1), t=(4, 4, 2, 2), m=(8, 8), g=(4, 8), k=(1, 4, 1, 1))
CONSTANTS |= {
    "axes": np.array([2, 3]), "low": np.float32(-0.3), "high": np.float32(0.4), "start": np.array([0]),
    "end": np.array([3]), "axis": np.array([1]), "first": np.array([0, 2]), "unit": np.array([2]),
    "repeat": np.array([1, 1, 2, 1]), "target": np.array([0, 4, 64]), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "scales": np.array([1, 1, 2, 2], np.float32),
}  # fmt: skip
FORMS: dict[str, list[onnx.NodeProto]] = {
    "Conv": [n("Conv", "c v", "o", pads=[1, 1, 1, 1])],
    "ConvTranspose": [n("ConvTranspose", "c t", "o", strides=[2, 2])],
    "MatMul": [n("MatMul", "c m", "o")],
    "Add": [n("Add", "c c", "o")],
    "Sub": [n("Sub", "c k", "o")],
    "Mul": [n("Mul", "c k", "o")],
    "AveragePool": [n("AveragePool", "c", "o", kernel_shape=[2, 2], strides=[2, 2])],
    "MaxPool": [n("MaxPool", "c", "o", kernel_shape=[2, 2], strides=[2, 2])],
    "GlobalAveragePool": [n("GlobalAveragePool", "c", "o")],
    "ReduceMean": [n("ReduceMean", "c axis", "o")],
    "ReduceMax": [n("ReduceMax", "c axes", "o")],
    "ReduceMin": [n("ReduceMin", "c axes", "o")],
    "Concat": [n("Concat", "c c", "o", axis=1)],
    "Softmax": [n("Softmax", "c", "o")],
    "Sigmoid": [n("Sigmoid", "c", "o")],
    "Tanh": [n("Tanh", "c", "o")],
    "HardSwish": [n("HardSwish", "c", "o")],
    "HardSigmoid": [n("HardSigmoid", "c", "o")],
    "LeakyRelu": [n("LeakyRelu", "c", "o")],
    "Elu": [n("Elu", "c", "o")],
    "Gelu": [n("Gelu", "c", "o")],
    "PRelu": [n("PRelu", "c slope", "o")],
    "Clip": [n("MaxPool", "c", "p", kernel_shape=[2, 2]), n("Clip", "p low high", "o")],
    "Relu": [n("MaxPool", "c", "p", kernel_shape=[2, 2]), n("Relu", "p", "o")],
    "Pad": [n("Pad", "c pads", "o")],
    "Reshape": [n("Reshape", "c target", "o")],
    "Flatten": [n("Flatten", "c", "o")],
    "Transpose": [n("Transpose", "c", "o", perm=[0, 2, 3, 1])],
    "Slice": [n("Slice", "c start end axis", "o")],
    "Split": [n("Split", "c", "o q", axis=1, num_outputs=2)],
    "Gather": [n("Gather", "c first", "o", axis=1)],
    "Unsqueeze": [n("Unsqueeze", "c unit", "o")],
    "Tile": [n("Tile", "c repeat", "o")],
    "Resize": [n("Resize", "c . scales", "o", mode="nearest", coordinate_transformation_mode="asymmetric")],
    "DepthToSpace": [n("DepthToSpace", "c", "o", blocksize=2)],
    "SpaceToDepth": [n("SpaceToDepth", "c", "o", blocksize=2)],
}


def audited(op: str, outputs: str) -> tuple[str, Audit]:
    """The name of an op's unit after a convolution, and the audit of the file."""
    graph = graph_of([n("Conv", "x w", "c", pads=[1, 1, 1, 1]), *FORMS[op]], CONSTANTS, ("n", 4, 8, 8), outputs)
    skeleton = decide(graph, Request())
    plan = nearest(graph, skeleton, observe(to_torch(graph), [(torch.from_numpy(X),)], skeleton))
    unit = next(unit for unit in plan.units if unit.op == op and unit.outputs[0] == "o")
    return unit.name, audit(export(graph, plan), graph, plan, shapes(graph, to_torch(graph)))


@pytest.mark.parametrize("op", sorted(FORMS))
def test_the_runtime_computes_as_the_table_says(op: str) -> None:
    name, found = audited(op, "o q" if op == "Split" else "o")
    row: Any = next(row for row in found.rows if row.unit == name)
    assert found.problems == ()
    assert row.integer is (op not in FLOAT_KERNELS), row
    assert row.expected_float is (op in FLOAT_KERNELS)
    assert row.reason == (f"ONNX Runtime has no integer {op}" if op in FLOAT_KERNELS else "")


@pytest.mark.parametrize("name", [name for name in list_profiles() if load_profile(name).runtime == "onnxruntime"])
def test_profiles_list_the_same_ops(name: str) -> None:
    profile = load_profile(name)
    assert set(profile.slow_ops["w8a8"]) == FLOAT_KERNELS
    assert set(profile.integer_ops["w8a8"]) == INTEGER - FLOAT_KERNELS


def test_an_output_that_nothing_reads_needs_no_grid_in_the_file() -> None:
    assert audited("Split", "o")[1].problems == ()
