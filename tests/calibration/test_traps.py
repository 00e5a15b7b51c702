"""Traps that others fell into: act-order on depthwise layers, shifts of weight-only layers, percentiles of outliers."""

import numpy as np
import torch
from onnx import helper

from edgeq.calibration.divergence import divergence, float_outputs
from edgeq.calibration.gptq import gptq
from edgeq.calibration.grids import activation_grids
from edgeq.calibration.layer import Layer
from edgeq.calibration.methods import method
from edgeq.calibration.observers import Percentile
from edgeq.calibration.ranges import Ranges, observe
from edgeq.calibration.sequential import sequential
from edgeq.graph.execute import to_torch

from .networks import build, convolutions, images, skeleton

SAMPLES = [(part,) for part in torch.from_numpy(images(192)).split(32)]
HELD_OUT = [(torch.from_numpy(images(64, seed=9)),)]


def test_act_order_does_not_destroy_a_depthwise_network() -> None:
    graph = convolutions()
    made = skeleton(graph, "w3a8")
    grids = activation_grids(made, observe(to_torch(graph), SAMPLES, made))
    reference = float_outputs(graph, HELD_OUT)

    def ordered(problem: Layer) -> tuple[torch.Tensor, torch.Tensor]:
        return gptq(problem, act_order=True)

    plain, act_order = (sequential(graph, made, grids, SAMPLES, r, method="gptq") for r in (gptq, ordered))
    found = [divergence(graph, plan, HELD_OUT, reference) for plan in (plain, act_order)]
    assert found[1] < 2 * found[0]


def test_weight_only_rounding_pays_for_the_shift_that_it_makes() -> None:
    # Inputs far from zero: an error of the weights is a shift above all, and there is no bias to take it up.
    g = np.random.default_rng(0)
    weight = g.normal(size=(24, 8)).astype(np.float32)
    graph = build([helper.make_node("MatMul", ["x", "w"], ["y"], "product")], ["batch", 24], {"w": weight})
    x = torch.from_numpy((3.0 + g.normal(size=(256, 24))).astype(np.float32))
    made = skeleton(graph, "w3")
    none = Ranges({}, {}, 0, "none")
    reference = to_torch(graph)(x)
    error = {}
    for name in ("nearest", "gptq"):
        plan = method(name)(graph, made, none, [(x,)])
        error[name] = float((x @ torch.from_numpy(plan.weights["w"].real) - reference).square().mean())
    assert error["gptq"] < 0.3 * error["nearest"]


def test_the_default_percentile_keeps_outliers_that_carry_the_result() -> None:
    # A transformer's few huge activations: 99.9 % cuts them, the default of 99.999 % does not at this number.
    values = torch.cat([torch.randn(50_000, generator=torch.Generator().manual_seed(0)), torch.full((20,), 80.0)])
    ranges = []
    for share in (0.999, 0.99999):
        observer = Percentile(share)
        observer.update(values)
        ranges.append(observer.range(8)[1])
    assert ranges[0] < 10.0
    assert Percentile().share == 0.99999
    assert ranges[1] > 79.0
