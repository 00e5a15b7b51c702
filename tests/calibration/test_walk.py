"""The walk sees what the models compute; a weight as rows and its input as columns are the layer."""

import numpy as np
import pytest
import torch
from onnx import helper

from edgeq.calibration import walk as walking
from edgeq.calibration.columns import columns, from_rows, to_rows
from edgeq.calibration.moments import moments
from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.calibration.walk import Walk
from edgeq.graph.execute import iterate_values, to_torch
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.simulate import Simulation

from .networks import build, convolutions, images, skeleton


def planned(graph: Graph, x: torch.Tensor, bits: str = "w4a8") -> Plan:
    made = skeleton(graph, bits)
    return nearest(graph, made, observe(to_torch(graph), [(x,)], made))


@pytest.mark.parametrize("held", [None, 0, walking.HELD], ids=["at once", "made once more", "held"])
@pytest.mark.parametrize("bits", ["w4a8", "w8a16", "w3"])
def test_both_sides_equal_the_models(bits: str, held: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one go, or with the products made first, from codes, and kept or not."""
    monkeypatch.setattr(walking, "HELD", held)
    graph, x = convolutions(), torch.from_numpy(images(12))
    plan = planned(graph, x, bits)
    walk = Walk(graph, plan.skeleton, plan.activations, plan.constants).start((part,) for part in x.split(5))
    with torch.no_grad():
        real = dict(iterate_values(to_torch(graph), (x,)))
        simulated = dict(iterate_values(Simulation(graph, plan).module, (x,)))
    compared = 0
    for unit in walk.units():
        weight = bias = scale = None
        if unit.weight is not None:
            constant = plan.weights[unit.weight]
            weight = torch.from_numpy(constant.real)
            bias = torch.from_numpy(plan.biases[unit.name].real) if unit.name in plan.biases else None
            if held is not None:
                scale = torch.from_numpy(np.array(constant.quantization.scale))
                walk.multiply(unit, torch.from_numpy(constant.codes.astype(np.float32)))
        walk.advance(unit, weight, bias, scale)
        for value in [v for v in unit.outputs if any(v in other.inputs for other in plan.units)]:
            step = float(plan.activations[value].scale) if value in plan.activations else 0.0
            # Another batch size sums in another order: a float may move by rounding, and a code then by one step.
            torch.testing.assert_close(torch.cat(list(walk.real.batches(value))), real[value], rtol=1e-5, atol=1e-5)
            difference = (torch.cat(list(walk.quantized.batches(value))) - simulated[value]).abs()
            assert float(difference.max()) <= step * 1.01 + 1e-5
            # Scaled after the sum it rounds otherwise: by some 1e-7 of the range, of which a step of 16 bits is 1.5e-5.
            some = 0.01 if bits == "w8a16" and held is not None else 0.001
            assert float((difference > 1e-5).float().mean()) < some
            compared += 1
    assert compared >= 5
    assert not walk.real, "every value is released after its last reader"


def test_products_have_numpys_means_and_variances() -> None:
    graph, x = convolutions(), torch.from_numpy(images(8))
    plan = planned(graph, x)
    walk = Walk(graph, plan.skeleton, plan.activations).start((part,) for part in x.split(3))
    unit = next(walk.units())
    codes = plan.weights["w1"].codes.astype(np.float32)
    weights = graph.constant("w1"), codes
    for side, weight, found in zip((0, 1), weights, walk.multiply(unit, torch.from_numpy(codes)), strict=True):
        assert weight is not None
        inputs = torch.cat([walk.inputs(unit, i)[side] for i in range(walk.batches)])
        rows = torch.nn.functional.conv2d(inputs, torch.from_numpy(weight.copy()), padding=1).transpose(0, 1).flatten(1)
        np.testing.assert_allclose(found.mean, rows.double().mean(1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.variance, rows.double().var(1, correction=0), rtol=1e-4)


CASES = {
    "convolution": ({"pads": [1, 2, 0, 1], "strides": [2, 1], "dilations": [1, 2]}, (6, 4, 3, 2), (2, 4, 9, 11)),
    "grouped": ({"group": 2}, (6, 2, 3, 3), (3, 4, 5, 5)),
    "depthwise": ({"group": 4, "pads": [1, 1, 1, 1]}, (8, 1, 3, 3), (3, 4, 5, 5)),
    "one-dimensional": ({"pads": [2, 0], "strides": [2]}, (5, 3, 4), (2, 3, 17)),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_times_columns_is_the_convolution(case: str) -> None:
    attributes, weight_shape, input_shape = CASES[case]
    g = np.random.default_rng(0)
    weight = g.normal(size=weight_shape).astype(np.float32)
    graph = build([helper.make_node("Conv", ["x", "w"], ["y"], "c", **attributes)], input_shape, {"w": weight})
    unit = skeleton(graph).units[0]
    x = torch.from_numpy(g.normal(size=input_shape).astype(np.float32))
    rows = to_rows(graph, unit, weight)
    product = torch.from_numpy(rows).float() @ columns(graph, unit, x)
    with torch.no_grad():
        expected = to_torch(graph)(x)
    flat = product.reshape(weight_shape[0], len(x), -1).transpose(0, 1).reshape(expected.shape)
    torch.testing.assert_close(flat, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(from_rows(graph, unit, rows), weight)


@pytest.mark.parametrize("transposed", [0, 1])
def test_rows_times_columns_is_the_gemm(transposed: int) -> None:
    g = np.random.default_rng(0)
    weight = g.normal(size=(4, 7) if transposed else (7, 4)).astype(np.float32)
    graph = build([helper.make_node("Gemm", ["x", "w"], ["y"], "gemm", transB=transposed)], (3, 7), {"w": weight})
    unit = skeleton(graph).units[0]
    x = torch.from_numpy(g.normal(size=(3, 7)).astype(np.float32))
    product = torch.from_numpy(to_rows(graph, unit, weight)).float() @ columns(graph, unit, x)
    torch.testing.assert_close(product[0].T, to_torch(graph)(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(from_rows(graph, unit, to_rows(graph, unit, weight)), weight)


def test_moments_are_numpys() -> None:
    graph, x = convolutions(), torch.from_numpy(images(8))
    plan = planned(graph, x)
    walk = Walk(graph, plan.skeleton, plan.activations).start((part,) for part in x.split(3))
    unit = next(walk.units())
    found = moments(walk, unit)
    sides = zip(*(walk.inputs(unit, i) for i in range(walk.batches)), strict=True)
    f, q = (torch.cat([columns(graph, unit, b) for b in side], 2)[0].double().numpy() for side in sides)
    for got, (a, b) in ((found.qq, (q, q)), (found.fq, (f, q))):
        # Products are summed in float32 within a batch.
        np.testing.assert_allclose(got[0], np.cov(a, b, bias=True)[: len(a), len(a) :], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_thinned_columns_are_some_of_all_columns_and_in_turn_all(case: str) -> None:
    attributes, weight_shape, input_shape = CASES[case]
    g = np.random.default_rng(0)
    weight = g.normal(size=weight_shape).astype(np.float32)
    graph = build([helper.make_node("Conv", ["x", "w"], ["y"], "c", **attributes)], input_shape, {"w": weight})
    unit = skeleton(graph).units[0]
    x = torch.from_numpy(g.normal(size=input_shape).astype(np.float32))
    everything = {tuple(c.tolist()) for c in columns(graph, unit, x)[0].T}
    seen: set[tuple[float, ...]] = set()
    for offset in range(64):
        thinned = columns(graph, unit, x, 4, offset)[0].T
        part = {tuple(c.tolist()) for c in thinned}
        assert part <= everything
        assert 0 < len(part) < len(everything)
        seen |= part
    assert seen == everything
