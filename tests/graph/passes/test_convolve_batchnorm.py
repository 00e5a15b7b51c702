"""A batch norm that nothing takes in is a convolution of each channel, with the same result."""

import numpy as np
import pytest

from edgeq.graph.passes.convolve_batchnorm import convolve_batchnorm

from .raw import n, ops, raw, run, sample
from .test_fold_batchnorm import statistics

NORM = n("BatchNormalization", "r gamma beta mean variance", epsilon=1e-3)


def test_after_an_activation() -> None:
    graph = raw([n("Relu", "x", "r"), NORM], statistics(3))
    rewritten = convolve_batchnorm(graph)
    assert ops(rewritten) == ["Relu", "Conv"]
    assert rewritten.nodes[1].attributes.get_int("group") == 3
    x = sample(2, 3, 8, 8)
    # One product and one sum in single precision on both sides, the factors rounded once.
    np.testing.assert_allclose(run(rewritten, x)[0], run(graph, x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [("n", 3), ("n", 3, 8)])
def test_others_than_feature_maps_stay(shape: tuple[int | str, ...]) -> None:
    graph = raw([n("Relu", "x", "r"), NORM], statistics(3), shape)
    assert ops(convolve_batchnorm(graph)) == ["Relu", "BatchNormalization"]


def test_computed_statistics_stay() -> None:
    constants = statistics(3)
    norm = n("BatchNormalization", "x gamma beta mean spread")
    nodes = [n("ReduceMax", "x", "spread", axes=[0, 2, 3], keepdims=0), norm]
    assert ops(convolve_batchnorm(raw(nodes, constants))) == ["ReduceMax", "BatchNormalization"]
