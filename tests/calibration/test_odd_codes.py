"""Codes of 2 and 3 bits are odd: four and eight levels, symmetric; methods, simulation and both files keep to them."""

import numpy as np
import onnxruntime
import pytest
import torch

from edgeq.calibration.grids import weighted
from edgeq.calibration.layer import Layer
from edgeq.calibration.methods import METHODS, Method, method
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
def test_every_method_chooses_odd_codes_and_the_simulation_keeps_them(each: Method, bits: int) -> None:
    plan = planned(each, f"w{bits}a8")
    validate(GRAPH, plan)
    assert dump(restore(dump(plan), plan.skeleton)) == dump(plan)
    # A scale that covers the largest weight would push all small ones away from zero: there a zero is kept.
    zero = each.name in ("nearest", "bias")
    top = 2 ** (bits - 1) - 1 if zero else 2**bits - 1
    wanted = set(range(-top, top + 1, 1 if zero else 2))
    assert {int(code) for constant in plan.weights.values() for code in np.unique(constant.codes)} == wanted
    again = Simulation(GRAPH, plan).plan()
    for value, constant in plan.weights.items():
        np.testing.assert_array_equal(again.weights[value].codes, constant.codes)
        np.testing.assert_array_equal(again.weights[value].quantization.scale, constant.quantization.scale)


def test_four_levels_are_nearer_to_bell_shaped_weights_than_three() -> None:
    from dataclasses import replace

    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 8, 256)))
    four = Layer(weight, weight, torch.eye(256, dtype=torch.float64)[None], 3, True, odd=True)
    three = replace(four, qmax=1, odd=False)
    errors = []
    for problem in (four, three):
        codes, scale = method("gptq").rounding(problem)  # type: ignore[misc]
        errors.append(float(problem.loss(codes * problem.wide(scale)).sum()))
    # The best uniform quantizers of a normal variable with four and with three levels: 0.119 and 0.190 of its variance.
    assert errors[0] / errors[1] == pytest.approx(0.119 / 0.190, rel=0.1)


def test_the_nearest_odd_code() -> None:
    grid = Quantization(np.float32(0.5).reshape(()), np.zeros((), np.int64), 2, odd=True)
    real = np.array([-9.0, -1.01, -0.99, -0.01, 0.01, 0.99, 1.01, 9.0])
    np.testing.assert_array_equal(grid.quantize(real), [-3, -3, -1, -1, 1, 1, 3, 3])
    with pytest.raises(PlanError, match="even on a grid of odd codes"):
        QuantizedConstant(np.array([-3, 0, 1]), grid)


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
    assert {value: each.odd for value, each in weighted(graph, skeleton(graph, "w2a8")).items()} == {
        "w1": True, "w2": True, "w3": False, "w4": True,
    }  # fmt: skip
    for name in ("statistics", "gptq+variance"):
        plan = planned(method(name), graph=graph)
        real = plan.weights["w1"].real
        assert np.abs(real[1]).max() < 1e-4 * np.abs(real).max()
        assert 0 in plan.weights["w3"].codes


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
