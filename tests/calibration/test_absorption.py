"""Absorption keeps the function on the samples, shrinks ranges, refuses what is not exact, and saves 8-bit values."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeq.calibration.absorption import absorb, absorbable
from edgeq.calibration.divergence import divergence, float_outputs
from edgeq.calibration.nearest import nearest
from edgeq.calibration.pairs import reaches
from edgeq.calibration.ranges import observe
from edgeq.graph.execute import iterate_values, to_torch
from edgeq.graph.graph import Graph

from .networks import build, images, skeleton

CHANNELS = 6


def network(
    activation: str = "Relu",
    *,
    second: dict[str, Any] | None = None,
    depthwise: bool = False,
    bias: bool = True,
    high: float = 8.0,
    bound: float = 6.0,
    seed: int = 0,
) -> Graph:
    """Two convolutions; half of the first one's channels have a bias so high that they never come near zero."""
    g = np.random.default_rng(seed)
    c, kernel = CHANNELS, 3 if depthwise or second else 1
    bounds = ["low", "high"] if activation == "Clip" else []
    nodes = [helper.make_node("Conv", ["x", "w1", *(["b1"] if bias else [])], ["c1"], "one")]
    if activation:
        nodes.append(helper.make_node(activation, ["c1", *bounds], ["r1"], "act"))
    between = nodes[-1].output[0]
    options = {"group": c} if depthwise else {}
    nodes.append(helper.make_node("Conv", [between, "w2", "b2"], ["y"], "two", **options, **(second or {})))
    outputs, inputs = (c, 1) if depthwise else (4, c)
    biases, w2 = high * (np.arange(c) % 2), g.normal(size=(outputs, inputs, kernel, kernel))
    # The second layer's bias takes the first one's away again, as that of a layer before a batch normalization does.
    taken = w2.sum((1, 2, 3)) * biases if depthwise else w2.sum((2, 3)) @ biases
    constants = {
        "w1": g.normal(size=(c, 3, 1, 1)) * 0.3, "b1": g.normal(size=c) * 0.1 + biases,
        "w2": w2, "b2": g.normal(size=outputs) - taken, "low": np.zeros(()), "high": np.full((), bound),
    }  # fmt: skip
    used = {value for node in nodes for value in node.input}
    kept = {key: value.astype(np.float32) for key, value in constants.items() if key in used}
    return build(nodes, ["batch", 3, 6, 6], kept)


def dense(seed: int, spread: float, *, transposed: bool, relu: bool) -> Graph:
    """Gemm, perhaps ReLU, Gemm, with biases of any size; the third channel is dead, the fourth is a constant."""
    g = np.random.default_rng(seed)
    w1, w2 = g.normal(size=(5, CHANNELS)), g.normal(size=(CHANNELS, 4))
    w1[:, 2:4] = 0.0
    b1 = g.normal(size=CHANNELS) * spread
    b1[2:4] = -1.0, 3.0
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["c1"], "one", transB=int(transposed)),
        *([helper.make_node("Relu", ["c1"], ["r1"], "act")] if relu else []),
        helper.make_node("Gemm", ["r1" if relu else "c1", "w2", "b2"], ["y"], "two", transB=int(transposed)),
    ]
    constants = {
        "w1": w1.T if transposed else w1, "b1": b1, "w2": w2.T if transposed else w2, "b2": g.normal(size=4),
    }  # fmt: skip
    return build(nodes, ["batch", 5], {k: np.ascontiguousarray(v, np.float32) for k, v in constants.items()})


def samples_of(graph: Graph, seed: int = 1) -> list[tuple[torch.Tensor, ...]]:
    if graph.inputs[0].shape is not None and len(graph.inputs[0].shape) == 2:
        return [(torch.from_numpy(np.random.default_rng(seed).normal(size=(64, 5)).astype(np.float32)),)]
    return [(torch.from_numpy(images(32, seed=seed)),)]


def width(graph: Graph, value: str, samples: list[tuple[torch.Tensor, ...]]) -> float:
    """The range of a value on a per-tensor grid, which has a zero."""
    with torch.inference_mode():
        (tensor,) = (t for inputs in samples for _, t in iterate_values(to_torch(graph), inputs, frozenset([value])))
    return float(tensor.max().clamp(min=0) - tensor.min().clamp(max=0))


def same(graph: Graph, other: Graph, samples: list[tuple[torch.Tensor, ...]]) -> None:
    with torch.inference_mode():
        before, after = to_torch(graph)(*samples[0]), to_torch(other)(*samples[0])
    # Constants of up to ten times the values move through float32 sums of up to 54 products.
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5 * float(before.abs().max()))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    spread=st.sampled_from([0.1, 3.0, 30.0]),
    transposed=st.booleans(),
    relu=st.booleans(),
)
def test_the_function_stays_the_same_on_the_samples_and_no_range_grows(
    seed: int, spread: float, transposed: bool, relu: bool
) -> None:
    graph = dense(seed, spread, transposed=transposed, relu=relu)
    samples = samples_of(graph)
    absorbed = absorb(graph, skeleton(graph), samples)
    same(graph, absorbed, samples)
    value = "r1" if relu else "c1"
    before, after = (width(made, value, samples) for made in (graph, absorbed))
    assert after <= before * (1 + 1e-6), "up to rounding in float32"
    if not relu:
        same(graph, absorbed, samples_of(graph, seed=2))  # without a ReLU all inputs are served, not the samples alone
    low, high = reaches(graph, ["one"], samples)["one"]
    least = float((high - (np.maximum(low, 0) if relu else low)).max())
    # The least that the value can be brought to, where that is worth it.
    assert after == pytest.approx(least if least <= 0.9 * before else before, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": ""},
        {"depthwise": True},
        {"activation": "Clip", "bound": 40.0},
        {"second": {"strides": [2, 2], "pads": [0, 0, 0, 0]}},
        {"second": {"auto_pad": "VALID"}},
    ],
)
def test_what_can_move_does(options: dict[str, Any]) -> None:
    graph = network(**options, high=20.0)
    samples, value = samples_of(graph), "r1" if options.get("activation", "Relu") else "c1"
    absorbed = absorb(graph, skeleton(graph), samples)
    same(graph, absorbed, samples)
    assert width(absorbed, value, samples) < 0.5 * width(graph, value, samples)
    assert [v.name for v in absorbed.node("two").inputs if v] == [v.name for v in graph.node("two").inputs if v]
    weights = [graph.constant("w1"), absorbed.constant("w1")]
    np.testing.assert_array_equal(*weights)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"second": {"pads": [1, 1, 1, 1]}},
        {"second": {"pads": [0, 0, 0, 1]}},
        {"second": {"auto_pad": "SAME_UPPER"}},
        {"second": {"pads": [1, 1, 1, 1]}, "depthwise": True},
        {"bias": False},
        {"activation": "Sigmoid"},
    ],
    ids=["padding", "one side", "auto_pad", "depthwise", "no bias", "sigmoid"],
)
def test_what_is_not_exact_is_refused(options: dict[str, Any]) -> None:
    graph = network(**options)
    assert absorbable(graph, skeleton(graph)) == ()
    assert absorb(graph, skeleton(graph), samples_of(graph)) is graph


def test_padding_would_not_be_exact() -> None:
    # The reason for the refusal: what is moved without regard to the border changes the function there.
    padded, samples = network(second={"pads": [1, 1, 1, 1]}), samples_of(network())
    absorbed = absorb(network(second={"pads": [0, 0, 0, 0]}), skeleton(network()), samples)
    wrong = padded.clone()
    for value in ("b1", "b2"):
        wrong.value(value).const_value = absorbed.value(value).const_value
    with torch.inference_mode():
        gap = (to_torch(wrong)(*samples[0]) - to_torch(padded)(*samples[0])).abs().amax((0, 1))
    assert gap[1:-1, 1:-1].max() < 1e-4
    assert gap[0].min() > 1.0


def test_a_value_that_others_read_stays() -> None:
    g = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["c1"], "one"),
        helper.make_node("Relu", ["c1"], ["r1"], "act"),
        helper.make_node("Gemm", ["r1", "w2", "b2"], ["c2"], "two"),
        helper.make_node("Add", ["c2", "r1"], ["y"], "add"),
    ]
    constants = {k: g.normal(size=(5, 5)) if k[0] == "w" else np.full(5, 9.0) for k in ("w1", "b1", "w2", "b2")}
    graph = build(nodes, ["batch", 5], {k: v.astype(np.float32) for k, v in constants.items()})
    assert absorbable(graph, skeleton(graph)) == ()


def test_a_value_that_stays_float_needs_no_range() -> None:
    assert absorbable(network(), skeleton(network())) != ()
    assert absorbable(network(), skeleton(network(), "w8")) == ()


def test_a_bound_that_is_reached_keeps_the_range() -> None:
    # All the odd channels lie above 6: nothing of them is left to move below it.
    graph = network("Clip", bound=6.0)
    assert absorbable(graph, skeleton(graph)) != ()
    assert absorb(graph, skeleton(graph), samples_of(graph)) is graph


def test_little_gain_is_no_reason_to_move() -> None:
    graph = network(high=0.0)
    assert absorbable(graph, skeleton(graph)) != ()
    assert absorb(graph, skeleton(graph), samples_of(graph)) is graph


@pytest.mark.parametrize("bits", ["w8a8", "w8a4"])
def test_values_of_few_steps_work_again(bits: str) -> None:
    # At a hundred times the other channels' size a bias leaves them two or three of 256 steps.
    graph = network(high=100.0)
    samples, held_out = samples_of(graph), samples_of(graph, seed=4)

    def measured(made: Graph) -> float:
        chosen = skeleton(made, bits, per_channel=False)
        plan = nearest(made, chosen, observe(to_torch(made), samples, chosen))
        return divergence(made, plan, held_out, float_outputs(graph, held_out))

    assert measured(absorb(graph, skeleton(graph), samples)) < 0.02 * measured(graph)
