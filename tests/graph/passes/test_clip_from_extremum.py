"""Max and Min with a constant number are Clip, with the same result."""

import numpy as np
import pytest

from edgeq.graph.passes.clip_from_extremum import clip_from_extremum

from .raw import n, ops, raw, run, sample


@pytest.mark.parametrize("op", ["Max", "Min"])
@pytest.mark.parametrize("inputs", ["x c", "c x"])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1)])
def test_with_one_number(op: str, inputs: str, shape: tuple[int, ...]) -> None:
    graph = raw([n(op, inputs)], {"c": np.full(shape, 0.3, np.float32)})
    rewritten = clip_from_extremum(graph)
    assert ops(rewritten) == ["Clip"]
    x = sample(2, 3, 8, 8)
    np.testing.assert_array_equal(run(rewritten, x)[0], run(graph, x)[0])


@pytest.mark.parametrize(("inputs", "constant"), [
    ("x c", np.zeros(8, np.float32)),
    ("x c", np.zeros((1, 1, 1, 1, 1), np.float32)),  # it adds an axis
    ("x x", np.float32(0)),
    ("x c c", np.float32(0)),
])  # fmt: skip
def test_others_stay(inputs: str, constant: np.ndarray) -> None:
    assert ops(clip_from_extremum(raw([n("Max", inputs)], {"c": np.asarray(constant)}))) == ["Max"]
