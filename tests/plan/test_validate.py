"""Each rule of the plan's written spec has a test that breaks it; and a plan survives being stored."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.errors import PlanError
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan
from edgeq.plan.quantization import Quantization, QuantizedConstant, per_tensor
from edgeq.plan.rules import Request, decide
from edgeq.plan.store import dump, restore
from edgeq.plan.validate import validate

from ..graphs import graph_of, n, weights

NODES = [
    n("Conv", "x w b", "c", pads=[1, 1, 1, 1]), n("Relu", "c", "r"), n("MaxPool", "r", "m", kernel_shape=[2, 2]),
    n("Add", "m k", "a"), n("Conv", "a v", "d"), n("Sigmoid", "d"),
]  # fmt: skip


@pytest.fixture(scope="module")
def graph() -> Graph:
    return graph_of(NODES, weights(w=(4, 3, 3, 3), b=(4,), k=(1, 4, 1, 1), v=(5, 4, 1, 1)))


def planned(graph: Graph, bits: Bits | None = None) -> Plan:
    torch.manual_seed(0)
    skeleton = decide(graph, Request(bits or Bits(8, 8)))
    return nearest(graph, skeleton, observe(to_torch(graph), [(torch.randn(4, 3, 8, 8),)], skeleton))


@pytest.fixture
def plan(graph: Graph) -> Plan:
    made = planned(graph)
    validate(graph, made)
    return made


def broken(graph: Graph, plan: Plan, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        validate(graph, plan)


def without(mapping: object, key: str) -> dict:
    return {k: v for k, v in mapping.items() if k != key}  # type: ignore[attr-defined]


def test_rule_1_values_have_grids(graph: Graph, plan: Plan) -> None:
    broken(graph, replace(plan, activations=without(plan.activations, "a")), "value 'a' has no grid")
    broken(graph, replace(plan, constants={}), "value 'k' has no grid")
    extra = {**plan.activations, "nobody": per_tensor(1.0, 0)}
    broken(graph, replace(plan, activations=extra), "'nobody' has a grid but belongs to no group")


def test_rule_2_groups_share_a_grid_and_prescribed_grids_are_kept(graph: Graph, plan: Plan) -> None:
    broken(graph, replace(plan, activations={**plan.activations, "m": per_tensor(9.0, 0)}), "different grids")
    broken(graph, replace(plan, activations={**plan.activations, "y": per_tensor(1 / 255, -128)}), "prescribe")


def test_rule_3_weights(graph: Graph, plan: Plan) -> None:
    weight = plan.weights["w"]
    grid = weight.quantization
    assert grid.axis == 0

    def changed(codes: np.ndarray, quantization: Quantization) -> Plan:
        return replace(plan, weights={**plan.weights, "w": QuantizedConstant(codes, quantization)})

    broken(graph, replace(plan, weights=without(plan.weights, "w")), "weight 'w' has no codes")
    broken(graph, changed(weight.codes[:, :, :2], grid), "do not fit the graph")
    broken(graph, changed(weight.codes, replace(grid, zero_point=grid.zero_point + 1)), "not symmetric")
    other = Quantization(np.ones(3, np.float32), np.zeros(3, np.int64), 8, 1, narrow=True)
    broken(graph, changed(weight.codes, other), "scales along axis 1")
    fewer = Quantization(grid.scale, grid.zero_point, 4, 0, narrow=True)
    broken(graph, changed(weight.codes // 32, fewer), "has 4 bits; 8 were asked")


def test_rule_4_biases(graph: Graph, plan: Plan) -> None:
    broken(graph, replace(plan, biases=without(plan.biases, "Conv_c")), "'Conv_c' has no bias")
    bias = plan.biases["Conv_c"]
    nudged = replace(bias.quantization, scale=np.nextafter(bias.quantization.scale, np.float32(1)))
    changed = {**plan.biases, "Conv_c": QuantizedConstant(bias.codes, nudged)}
    broken(graph, replace(plan, biases=changed), "not input scale x weight scale")


def test_rule_5_the_accumulator_fits(graph: Graph, plan: Plan) -> None:
    bias = plan.biases["Conv_c"]
    huge = QuantizedConstant(np.full_like(bias.codes, 2**31 - 1), bias.quantization)
    broken(graph, replace(plan, biases={**plan.biases, "Conv_c": huge}), "accumulator can overflow")


def test_rule_6_every_unit_has_its_reason(graph: Graph, plan: Plan) -> None:
    units = (replace(plan.units[0], reason=""), *plan.units[1:])
    broken(graph, replace(plan, skeleton=replace(plan.skeleton, units=units)), "'Conv_c' has no reason")


# Storing.


@pytest.mark.parametrize("bits", ["w8a8", "w4a8", "w2a8", "w8a16", "w4"])
def test_a_stored_plan_is_the_same_plan(graph: Graph, bits: str) -> None:
    plan = planned(graph, Bits.parse(bits))
    back = restore(dump(plan), plan.skeleton)
    assert dump(back) == dump(plan)
    validate(graph, back)
    assert back.method == plan.method
    assert back.activations.keys() == plan.activations.keys()
    for value, grid in plan.activations.items():
        assert grid.same_grid(back.activations[value])
    for part in ("weights", "biases", "constants"):
        before, after = getattr(plan, part), getattr(back, part)
        assert before.keys() == after.keys()
        for key, constant in before.items():
            assert np.array_equal(constant.codes, after[key].codes)
            assert constant.quantization.same_grid(after[key].quantization)
            assert constant.quantization.narrow == after[key].quantization.narrow


def test_the_same_plan_is_the_same_bytes(graph: Graph) -> None:
    assert dump(planned(graph)) == dump(planned(graph))


@pytest.mark.parametrize(
    "damage", [lambda d: d[:100], lambda d: b"", lambda d: b"PK" + d[2:50], lambda d: d[: len(d) // 2]]
)
def test_damaged_bytes(plan: Plan, damage: object) -> None:
    with pytest.raises(PlanError, match="damaged"):
        restore(damage(dump(plan)), plan.skeleton)  # type: ignore[operator]
