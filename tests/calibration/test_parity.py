"""Codes of 2 and 3 bits are two apart, odd where a row needs no zero; methods, simulation, both files keep to them."""

import numpy as np
import onnxruntime
import pytest
import torch

from edgeq.calibration.grids import weighted
from edgeq.calibration.layer import Layer, nearest_code
from edgeq.calibration.methods import METHODS, Method, method
from edgeq.calibration.parity import chosen, of, parity_of_rows, whole
from edgeq.calibration.ranges import observe
from edgeq.errors import PlanError
from edgeq.exporters import onnx as onnx_format
from edgeq.exporters import tflite as tflite_format
from edgeq.graph.execute import shapes, to_torch
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.plan.quantization import Quantization, QuantizedConstant
from edgeq.plan.store import dump, restore
from edgeq.plan.validate import validate
from edgeq.simulate import Simulation

from .networks import convolutions, images, skeleton

GRAPH = convolutions()
SAMPLES = [(part,) for part in torch.from_numpy(images(64)).split(32)]


def planned(made: Method, bits: str = "w2a8", graph: Graph = GRAPH) -> Plan:
    chosen = skeleton(graph, bits)
    return made(graph, chosen, observe(to_torch(graph), SAMPLES, chosen), SAMPLES)


@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize("each", METHODS, ids=lambda m: m.name)
def test_every_method_keeps_the_parity_of_each_row_and_so_does_the_simulation(each: Method, bits: int) -> None:
    plan = planned(each, f"w{bits}a8")
    validate(GRAPH, plan)
    assert dump(restore(dump(plan), plan.skeleton)) == dump(plan)
    # A scale that covers the largest weight would push all small ones away from zero: there a zero is kept.
    wanted = weighted(GRAPH, plan.skeleton, whole if each.name in ("nearest", "bias") else chosen)
    for value, constant in plan.weights.items():
        np.testing.assert_array_equal(constant.quantization.parity, wanted[value].parity)
    levels = {int(code) for constant in plan.weights.values() for code in np.unique(constant.codes)}
    top = 2 ** (bits - 1) - 1
    if each.name in ("nearest", "bias"):
        assert levels == set(range(-top, top + 1))
    else:
        assert levels >= set(range(-2 * top - 1, 2 * top + 2, 2)) | {0}
    again = Simulation(GRAPH, plan).plan()
    for value, constant in plan.weights.items():
        np.testing.assert_array_equal(again.weights[value].codes, constant.codes)
        np.testing.assert_array_equal(again.weights[value].quantization.scale, constant.quantization.scale)


def test_four_levels_are_nearer_to_bell_shaped_weights_than_three() -> None:
    from dataclasses import replace

    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 8, 256)))
    odd = torch.ones(1, 8, dtype=torch.float64)
    four = Layer(weight, weight, torch.eye(256, dtype=torch.float64)[None], 3, True, parity=odd)
    three = replace(four, qmax=1, parity=None)
    errors = []
    for problem in (four, three):
        codes, scale = method("gptq").rounding(problem)  # type: ignore[misc]
        errors.append(float(problem.loss(codes * problem.wide(scale)).sum()))
    # The best uniform quantizers of a normal variable with four and with three levels: 0.119 and 0.190 of its variance.
    assert errors[0] / errors[1] == pytest.approx(0.119 / 0.190, rel=0.1)


def test_the_nearest_code_of_each_parity() -> None:
    both = Quantization(np.full(2, 0.5, np.float32), np.zeros(2, np.int64), 2, 0, parity=np.array([1, 0]))
    real = np.array([-9.0, -1.01, -0.99, -0.51, -0.49, -0.01, 0.01, 0.49, 0.51, 0.99, 1.01, 9.0])
    odd, even = both.quantize(np.stack([real, real]))
    np.testing.assert_array_equal(odd, [-3, -3, -1, -1, -1, -1, 1, 1, 1, 1, 3, 3])
    np.testing.assert_array_equal(even, [-4, -2, -2, -2, 0, 0, 0, 0, 2, 2, 2, 2])
    for wrong in ([[-3, 0], [0, 0]], [[1, 1], [1, 0]]):
        with pytest.raises(PlanError, match="odd where its grid's are even, or even where"):
            QuantizedConstant(np.array(wrong), both)
    for parity in (np.array([2, 0]), np.array([1])):
        with pytest.raises(PlanError, match="not 0 or 1 for each scale"):
            Quantization(np.full(2, 0.5, np.float32), np.zeros(2, np.int64), 2, 0, parity=parity)


@pytest.mark.parametrize("bits", [2, 3])
def test_the_grid_and_the_methods_round_alike(bits: int) -> None:
    parity = np.array([1, 0, 1], np.int64)
    grid = Quantization(np.full(3, 0.25, np.float32), np.zeros(3, np.int64), bits, 0, parity=parity)
    real = np.random.default_rng(bits).normal(0, 1, (3, 200)).astype(np.float32)
    found = nearest_code(torch.from_numpy(real / np.float32(0.25)), grid.qmax, torch.tensor(parity)[:, None].float())
    np.testing.assert_array_equal(grid.quantize(real), found.numpy())
    # The written definition: of all codes 2 k + parity the nearest.
    for row, values, codes in zip(parity, real, grid.quantize(real), strict=True):
        every = 2 * np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)) + row
        np.testing.assert_array_equal(codes, every[np.abs(values[:, None] - 0.25 * every).argmin(1)])


def test_a_row_of_few_large_numbers_keeps_a_zero_and_a_bell_does_not() -> None:
    rng = np.random.default_rng(0)
    bell = rng.normal(size=(4, 512)).astype(np.float32)
    outliers = (0.02 * bell).astype(np.float32)
    outliers[:, :8] = bell[:, :8]
    for bits in (2, 3):
        np.testing.assert_array_equal(parity_of_rows(np.concatenate([bell, outliers]), bits), [1] * 4 + [0] * 4)
    for parities, bits in ((chosen, "w4a8"), (whole, "w2a8")):
        assert all(weight.parity is None for weight in weighted(GRAPH, skeleton(GRAPH, bits), parities).values())


def test_gradients_reach_the_weight_and_the_scale() -> None:
    simulation = Simulation(GRAPH, planned(method("statistics")))
    quantizer = simulation.weights["w3"]
    quantizer.scale.requires_grad_()
    value = simulation(SAMPLES[0][0])
    value.square().mean().backward()
    assert quantizer.latent.grad is not None
    assert float(quantizer.latent.grad.abs().sum()) > 0
    # d/ds of s (q + 1/2): a larger step changes every weight, so that the scale's gradient is not zero.
    assert float(quantizer.scale.grad.abs().sum()) > 0


def test_a_dead_channel_stays_next_to_zero_and_a_sparse_weight_keeps_its_zero() -> None:
    import onnx_ir as ir

    edited = GRAPH.clone()
    dead = np.array(GRAPH.constant("w1"))
    dead[1] = 0.0
    sparse = np.array(GRAPH.constant("w3"))
    sparse[np.abs(sparse) < np.quantile(np.abs(sparse), 0.5)] = 0.0
    for value, array in (("w1", dead), ("w3", sparse)):
        edited.value(value).const_value = ir.tensor(array, name=value)
    graph = Graph(edited.model)
    found = weighted(graph, skeleton(graph, "w2a8"), chosen)
    assert {value: each.parity is not None and each.parity.any() for value, each in found.items()} == {
        "w1": True, "w2": True, "w3": False, "w4": True,
    }  # fmt: skip
    assert found["w1"].parity is not None
    assert found["w1"].parity[1] == 0
    for name in ("statistics", "gptq+variance"):
        plan = planned(method(name), graph=graph)
        real = plan.weights["w1"].real
        assert not real[1].any()
        assert 0 in plan.weights["w3"].codes
        again = weighted(graph, plan.skeleton, of(plan))
        assert all(again[value].parity is not None for value in plan.weights)


@pytest.mark.parametrize("bits", ["w2a8", "w2", "w3a8", "w3"])
def test_both_files_hold_them(bits: str) -> None:
    plan = planned(method("gptq"), bits)
    file = onnx_format.export(GRAPH, plan)
    assert onnx_format.audit(file, GRAPH, plan, shapes(GRAPH, to_torch(GRAPH))).problems == ()
    x = images(8, seed=3)
    with torch.no_grad():
        simulated = Simulation(GRAPH, plan)(torch.from_numpy(x)).numpy()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    found = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    step = float(plan.activations["y"].scale) if bits == "w2a8" else 1e-3
    assert np.abs(found - simulated).max() <= 1.01 * step
    assert tflite_format.audit(tflite_format.build(GRAPH, plan).data, GRAPH, plan).problems == ()
