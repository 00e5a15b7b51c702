"""Equalization keeps the function, evens out the channels, and lets per-tensor weights work again."""

import numpy as np
import torch
from onnx import helper

from edgeq.calibration.divergence import divergence, float_outputs
from edgeq.calibration.equalization import equalize, highest
from edgeq.calibration.nearest import nearest
from edgeq.calibration.pairs import pairs
from edgeq.calibration.ranges import observe
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph

from .networks import build, convolutions, images, skeleton


def chain(spread: float = 3.0, activation: str = "Relu", bound: float = 6.0) -> Graph:
    """Convolution, depthwise, pointwise, Gemm; channels whose weights differ by orders of magnitude."""
    g = np.random.default_rng(0)
    c = 8
    bounds = ["low", "high"] if activation == "Clip" else []
    uneven = 10.0 ** g.uniform(-spread / 2, spread / 2, c)
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "one", pads=[1, 1, 1, 1]),
        helper.make_node(activation, ["c1", *bounds], ["r1"], "act1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "two", pads=[1, 1, 1, 1], group=c),
        helper.make_node(activation, ["c2", *bounds], ["r2"], "act2"),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], "three"),
        helper.make_node("GlobalAveragePool", ["c3"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["y"], "flatten"),
    ]
    constants = {
        "w1": g.normal(size=(c, 3, 3, 3)) * uneven[:, None, None, None], "b1": g.normal(size=c) * uneven,
        "w2": g.normal(size=(c, 1, 3, 3)), "b2": g.normal(size=c) * uneven,
        "w3": g.normal(size=(5, c, 1, 1)) / uneven[:, None, None], "b3": g.normal(size=5),
        **({"low": np.zeros(()), "high": np.full((), bound)} if bounds else {}),
    }  # fmt: skip
    return build(nodes, ["batch", 3, 6, 6], {key: value.astype(np.float32) for key, value in constants.items()})


def test_pairs_of_a_depthwise_chain() -> None:
    assert [(p.first, p.second, p.between) for p in pairs(chain())] == [
        ("one", "two", ("act1",)),
        ("two", "three", ("act2",)),
    ]


def test_what_is_not_homogeneous_or_has_two_readers_is_left_alone() -> None:
    assert pairs(chain(activation="Sigmoid")) == ()
    # relu1 is read twice, and a ReLU6 stands before the pointwise convolution.
    assert pairs(convolutions()) == ()
    untouched = convolutions()
    assert equalize(untouched) is untouched


def test_the_function_stays_the_same() -> None:
    graph, x = chain(), torch.from_numpy(images(16))
    with torch.no_grad():
        before, after = to_torch(graph)(x), to_torch(equalize(graph))(x)
    # Scales move by up to 10^1.5 through float32 products.
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))
    assert [v.name for v in equalize(graph).node("one").inputs] == [v.name for v in graph.node("one").inputs]


def test_both_sides_of_a_pair_come_to_the_same_size() -> None:
    graph = equalize(chain())
    one, two, three = (graph.constant(graph.node(n).inputs[1]) for n in ("one", "two", "three"))
    assert one is not None
    assert two is not None
    assert three is not None
    sizes = [np.abs(w).reshape(8, -1).max(1) for w in (one, two, three.swapaxes(0, 1))]
    np.testing.assert_allclose(sizes[0], sizes[1], rtol=0.01)
    np.testing.assert_allclose(sizes[1], sizes[2], rtol=0.01)


def test_per_tensor_weights_work_again() -> None:
    samples, held_out = [(torch.from_numpy(images(64)),)], [(torch.from_numpy(images(64, seed=4)),)]

    def measured(graph: Graph) -> float:
        chosen = skeleton(graph, per_channel=False)
        plan = nearest(graph, chosen, observe(to_torch(graph), samples, chosen))
        return divergence(graph, plan, held_out, float_outputs(graph, held_out))

    assert measured(equalize(chain())) < 0.2 * measured(chain())


def test_a_bounded_pair_needs_the_channels_reach() -> None:
    assert pairs(chain(activation="Clip")) == ()
    assert [pair.bound for pair in pairs(chain(activation="Clip"), bounded=True)] == [6.0, 6.0]


def test_relu6_keeps_the_function_on_the_samples_and_still_evens_out() -> None:
    graph, samples = chain(activation="Clip", bound=60.0), [(torch.from_numpy(images(64)),)]
    tops = highest(graph, samples)
    assert set(tops) == {"one", "two"}
    # Some channels reach the bound and some do not: both rules are at work.
    assert 0 < (tops["one"] >= 60).sum() < 8
    even = equalize(graph, tops)
    with torch.no_grad():
        before, after = to_torch(graph)(*samples[0]), to_torch(even)(*samples[0])
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))
    spread = []
    for made in (graph, even):
        weight = made.constant("w1")
        assert weight is not None
        size = np.abs(weight).reshape(8, -1).max(1)
        spread.append(size.max() / size.min())
    assert spread[1] < 0.5 * spread[0]
