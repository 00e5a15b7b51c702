"""Every way in which exporters write a HardSwish out is found; what only looks like one is left alone."""

import numpy as np
import pytest

from edgeq.graph.passes.fuse_hard_swish import fuse_hard_swish
from edgeq.graph.passes.remove_dead import remove_dead

from .raw import n, ops, raw, run, sample

CONSTANTS = {"three": 3.0, "zero": 0.0, "six": 6.0, "sixth": 1 / 6, "four": 4.0}
ARRAYS = {key: np.asarray(number, np.float32) for key, number in CONSTANTS.items()}
CLIPPED = [n("Add", "x three", "a"), n("Clip", "a zero six", "c")]


@pytest.mark.parametrize("nodes", [
    [*CLIPPED, n("Mul", "x c", "p"), n("Mul", "p sixth")],
    [*CLIPPED, n("Mul", "c x", "p"), n("Mul", "sixth p")],
    [*CLIPPED, n("Mul", "c sixth", "g"), n("Mul", "g x")],
    [n("Add", "three x", "a"), n("Clip", "a zero six", "c"), n("Mul", "c sixth", "g"), n("Mul", "x g")],
    [n("HardSigmoid", "x", "g", alpha=1 / 6, beta=0.5), n("Mul", "x g")],
])  # fmt: skip
def test_is_one_op_with_the_same_result(nodes: list) -> None:
    graph = raw(nodes, ARRAYS)
    fused = remove_dead(fuse_hard_swish(graph))
    assert ops(fused) == ["HardSwish"]
    assert fused.nodes[0].name == "Mul_y"
    x = 4 * sample(2, 3, 8, 8)
    # Four roundings in another order, of numbers up to 16.
    np.testing.assert_allclose(run(fused, x)[0], run(graph, x)[0], atol=4e-6)


@pytest.mark.parametrize("nodes", [
    [n("Add", "x four", "a"), n("Clip", "a zero six", "c"), n("Mul", "x c", "p"), n("Mul", "p sixth")],
    [n("Add", "x three", "a"), n("Clip", "a zero four", "c"), n("Mul", "x c", "p"), n("Mul", "p sixth")],
    [*CLIPPED, n("Mul", "x c", "p"), n("Mul", "p four")],
    [*CLIPPED, n("Mul", "a c", "p"), n("Mul", "p sixth")],
    [n("HardSigmoid", "x", "g"), n("Mul", "x g")],
    [n("HardSigmoid", "x", "g", alpha=1 / 6, beta=0.5), n("Mul", "g g")],
])  # fmt: skip
def test_another_product_stays(nodes: list) -> None:
    assert "HardSwish" not in ops(fuse_hard_swish(raw(nodes, ARRAYS)))


def test_not_before_the_standard_has_it() -> None:
    nodes = [n("HardSigmoid", "x", "g", alpha=1 / 6, beta=0.5), n("Mul", "x g")]
    assert "HardSwish" not in ops(fuse_hard_swish(raw(nodes, opset=13)))


def test_a_part_that_is_read_elsewhere_is_still_computed() -> None:
    nodes = [*CLIPPED, n("Mul", "x c", "p"), n("Mul", "p sixth", "y")]
    graph = raw(nodes, ARRAYS, outputs="y c")
    fused = remove_dead(fuse_hard_swish(graph))
    assert sorted(ops(fused)) == ["Add", "Clip", "HardSwish"]
    x = sample(2, 3, 8, 8)
    for before, after in zip(run(graph, x), run(fused, x), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)
