"""How far a plan is from the float model, against the formulas in NumPy."""

import numpy as np
import pytest
import torch
from onnx import helper
from scipy.special import log_softmax

from edgeq.calibration.divergence import Distance, distance, float_outputs
from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.simulate import Simulation
from edgeq.task import SOFT

from .networks import build, skeleton


def linear(sharpness: float, outputs: int = 10) -> Graph:
    weight = np.random.default_rng(0).normal(size=(8, outputs)).astype(np.float32) * sharpness
    return build([helper.make_node("Gemm", ["x", "w"], ["y"], "gemm")], ["batch", 8], {"w": weight})


def measured(graph: Graph, samples: int = 40) -> tuple[np.ndarray, np.ndarray, Distance]:
    """The float outputs, those at three bits, and their distance."""
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(samples, 8)).astype(np.float32))
    asked = skeleton(graph, "w3a8")
    plan = nearest(graph, asked, observe(to_torch(graph), [(x,)], asked))
    batches = [(part,) for part in x.split(16)]
    with torch.no_grad():
        real, found = to_torch(graph)(x), Simulation(graph, plan)(x)
    return real.double().numpy(), found.double().numpy(), distance(graph, plan, batches, float_outputs(graph, batches))


def kl(real: np.ndarray, found: np.ndarray) -> float:
    p, q = log_softmax(real, -1), log_softmax(found, -1)
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def test_class_scores_are_compared_plainly_and_softened() -> None:
    real, found, told = measured(linear(3.0))
    assert told.divergence == pytest.approx(kl(real, found), rel=1e-9)
    assert told.soft == pytest.approx(SOFT**2 * kl(real / SOFT, found / SOFT), rel=1e-9)
    assert told.soft != pytest.approx(told.divergence, rel=0.01)


def test_values_are_compared_by_their_squared_error_alone() -> None:
    real, found, told = measured(linear(1e-3))  # their softmax says nothing
    error = ((real - found) ** 2).mean() / ((real - real.mean(0)) ** 2).mean()
    assert told.divergence == told.soft == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize("layers", [2, 3])
def test_a_state_whose_first_axis_is_none_of_samples_counts_as_the_output_does(layers: int) -> None:
    rng = np.random.default_rng(3)
    weights = {
        "w": 1e-3 * rng.normal(size=(8, 4)).astype(np.float32),
        "v": rng.normal(size=(layers, 1, 4)).astype(np.float32),
    }
    graph = build(
        [helper.make_node("Gemm", ["x", "w"], ["y"], "gemm"), helper.make_node("Mul", ["y", "v"], ["state"], "scale")],
        ["batch", 8], weights, ["y", "state"],
    )  # fmt: skip
    x = torch.from_numpy(rng.normal(size=(5, 8)).astype(np.float32))
    asked = skeleton(graph, "w3a8")
    plan = nearest(graph, asked, observe(to_torch(graph), [(x,)], asked))
    batches = [(part,) for part in x.split(3)]
    told = distance(graph, plan, batches, float_outputs(graph, batches))
    assert len(told.each) == 5
    with torch.no_grad():
        real, found = ([z.double().numpy() for z in run(x)] for run in (to_torch(graph), Simulation(graph, plan)))
    state = ((real[1] - found[1]) ** 2).mean() / ((real[1] - real[1].mean(1, keepdims=True)) ** 2).mean()
    output = ((real[0] - found[0]) ** 2).mean() / ((real[0] - real[0].mean(0)) ** 2).mean()
    assert told.soft == told.divergence == pytest.approx(state + output, rel=1e-9)


def test_what_lies_farther_is_shown_by_enough_samples_that_agree() -> None:
    rng = np.random.default_rng(0)
    near = rng.uniform(0.1, 0.3, 100)
    farther = Distance(0.0, tuple(near + rng.normal(0.02, 0.05, 100)))
    noisy = Distance(0.0, tuple(near + rng.normal(0.02, 0.5, 100)))
    best = Distance(0.0, tuple(near))
    assert farther.shown_above(best)
    assert not best.shown_above(farther)
    assert not noisy.shown_above(best)
    assert not best.shown_above(best)
    assert Distance(0.0, (2.0, 3.0)).shown_above(Distance(0.0, (1.0, 2.0)))
    assert not Distance(0.0, (2.0,)).shown_above(Distance(0.0, (1.0,))), "one sample shows nothing"
    broken = Distance(np.inf, (np.nan, 1.0))
    assert broken.soft == np.inf
    assert broken.shown_above(Distance(0.0, (1.0, 1.0)))
    assert not broken.shown_above(broken)


def test_equal_plans_are_told_apart_one_time_in_twenty() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.exponential(size=(2, 2000, 100))
    shown = [Distance(0.0, tuple(a)).shown_above(Distance(0.0, tuple(b))) for a, b in zip(one, other, strict=True)]
    assert 0.035 < np.mean(shown) < 0.065
