"""Pairs of another tool become Clips; constants that are stored as codes become real numbers, outputs included."""

import numpy as np
import onnx_ir as ir

from edgeq.graph.passes.pairs_to_clips import pairs_to_clips

from .raw import n, ops, raw, run, sample

_GRID = {"s": np.float32(0.1), "z": np.uint8(128)}


def test_a_pair_is_a_clip_at_the_ends_of_its_grid() -> None:
    graph = raw([n("QuantizeLinear", "x s z", "q"), n("DequantizeLinear", "q s z")], _GRID)
    rewritten = pairs_to_clips(graph)
    assert ops(rewritten) == ["Clip"]
    x = 20 * sample(2, 3, 8, 8)
    np.testing.assert_allclose(run(rewritten, x)[0], np.clip(x, -12.8, 12.7), rtol=1e-6)


def test_codes_of_a_constant_become_real_numbers() -> None:
    codes = np.array([0, 100, 255], np.uint8)[:, None, None]
    graph = raw([n("DequantizeLinear", "c s z", "r"), n("Add", "x r")], {**_GRID, "c": codes})
    rewritten = pairs_to_clips(graph)
    assert ops(rewritten) == ["Add"]
    x = sample(2, 3, 8, 8)
    np.testing.assert_array_equal(run(rewritten, x)[0], run(graph, x)[0])


def test_a_constant_that_is_an_output_stays_one() -> None:
    nodes = [n("DequantizeLinear", "c s z", "y"), n("Relu", "x", "w")]
    graph = raw(nodes, {**_GRID, "c": np.array([3, 4], np.uint8)}, outputs="y w")
    rewritten = pairs_to_clips(graph)
    x = sample(2, 3, 8, 8)
    for found, wanted in zip(run(rewritten, x), run(graph, x), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_zero_point_that_is_no_integer_leaves_the_pair() -> None:
    graph = raw([n("QuantizeLinear", "x s z", "q"), n("DequantizeLinear", "q s z")], _GRID)
    for damage in (np.float32("nan"), np.float32(128)):
        constant = graph.model.graph.initializers["z"]
        constant.const_value = ir.tensor(damage, name="z")
        assert ops(pairs_to_clips(graph)) == ["QuantizeLinear", "DequantizeLinear"]
