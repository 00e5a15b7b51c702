"""A division by a constant becomes a product with the same result; other divisions stay."""

import numpy as np
import pytest

from edgeq.graph.passes.multiply_by_reciprocal import multiply_by_reciprocal

from .raw import n, ops, raw, run, sample


@pytest.mark.parametrize("divisor", [np.float32(6), sample(3, 1, 1), sample(1, 3, 8, 8), np.float32(-1e30)])
def test_by_a_constant(divisor: np.ndarray) -> None:
    graph = raw([n("Div", "x c")], {"c": np.asarray(divisor)})
    rewritten = multiply_by_reciprocal(graph)
    assert ops(rewritten) == ["Mul"]
    assert rewritten.nodes[0].name == "Div_y"
    x = sample(2, 3, 8, 8)
    # The reciprocal and the product are each rounded once.
    np.testing.assert_allclose(run(rewritten, x)[0], run(graph, x)[0], rtol=3e-7)


@pytest.mark.parametrize("divisor", [np.float32(0), np.float32(np.inf), np.float32(1e-45), np.float32(3e38)])
def test_a_reciprocal_that_is_no_ordinary_number(divisor: np.float32) -> None:
    assert ops(multiply_by_reciprocal(raw([n("Div", "x c")], {"c": np.asarray(divisor)}))) == ["Div"]


@pytest.mark.parametrize("inputs", ["c x", "x x"])
def test_by_a_computed_value(inputs: str) -> None:
    assert ops(multiply_by_reciprocal(raw([n("Div", inputs)], {"c": np.float32(2)}))) == ["Div"]


def test_whole_numbers_divide_as_before() -> None:
    nodes = [n("Shape", "x", "s"), n("Div", "s c")]
    assert ops(multiply_by_reciprocal(raw(nodes, {"c": np.array(2, np.int64)}))) == ["Shape", "Div"]
