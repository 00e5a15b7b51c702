"""Folding a batch norm changes no output, and it is left alone where it would."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.graph.passes.fold_batchnorm import fold_batchnorm

from .raw import Array, n, ops, raw, run, sample

NORM = n("BatchNormalization", "c gamma beta mean variance", epsilon=1e-3)


def statistics(channels: int, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    found = {
        "gamma": rng.normal(size=channels), "beta": rng.normal(size=channels),
        "mean": rng.normal(size=channels), "variance": rng.uniform(0.01, 4, channels),
    }  # fmt: skip
    return {key: value.astype(np.float32) for key, value in found.items()}


def folds(nodes: list, constants: dict[str, Array], *shape: int, **more: Any) -> None:
    graph = raw(nodes, constants, ("n", *shape[1:]), **more)
    folded = fold_batchnorm(graph)
    assert "BatchNormalization" not in ops(folded)
    x = sample(*shape)
    for before, after in zip(run(graph, x), run(folded, x), strict=True):
        # float32 sums of other products: relative to the largest output.
        assert np.abs(before - after).max() <= 1e-5 * max(1.0, np.abs(before).max())


@given(
    channels=st.integers(1, 6),
    group=st.booleans(),
    bias=st.booleans(),
    kernel=st.integers(1, 3),
    seed=st.integers(0, 9),
)
@settings(max_examples=25, deadline=None)
def test_a_convolution(channels: int, group: bool, bias: bool, kernel: int, seed: int) -> None:
    groups = channels if group else 1
    constants = statistics(channels, seed) | {"w": sample(channels, channels // groups, kernel, kernel, seed=seed)}
    if bias:
        constants["b"] = sample(channels, seed=seed + 1)
    conv = n("Conv", "x w b" if bias else "x w", "c", group=groups)
    folds([conv, NORM], constants, 2, channels, 7, 7)


def test_a_transposed_convolution() -> None:
    constants = statistics(5) | {"w": sample(3, 5, 2, 2), "b": sample(5)}
    folds([n("ConvTranspose", "x w b", "c", strides=[2, 2]), NORM], constants, 2, 3, 6, 6)


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_matrix_product(transposed: int) -> None:
    constants = statistics(5) | {"w": sample(*((5, 7) if transposed else (7, 5))), "b": sample(5)}
    folds([n("Gemm", "x w b", "c", transB=transposed), NORM], constants, 4, 7)


def test_two_layers_that_share_a_weight() -> None:
    # Folding one must not change the other.
    norms = [
        n("BatchNormalization", "c gamma beta mean variance", "d"),
        n("BatchNormalization", "e mean beta gamma variance"),
    ]
    nodes = [n("Conv", "x w", "c"), norms[0], n("Conv", "d w", "e"), norms[1]]
    folds(nodes, statistics(3) | {"w": sample(3, 3, 1, 1)}, 2, 3, 4, 4)


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([n("Conv", "x w", "c"), NORM, n("Relu", "c", "z")], "y z"),  # another reader wants the value before
        ([n("Conv", "x w", "c"), NORM], "y c"),  # so does the caller
        ([n("Relu", "x", "c"), NORM], "y"),  # nothing to fold into
        ([n("Conv", "x w", "p"), n("Relu", "p", "c"), NORM], "y"),
        ([n("ConvTranspose", "x v", "c", group=3), NORM], "y"),  # the output channels lie in two axes
        ([n("Relu", "x", "r"), n("ReduceMean", "r", "m", axes=[0, 2, 3], keepdims=0),
          n("Conv", "x w", "c"), n("BatchNormalization", "c gamma beta m variance")], "y"),  # computed statistics
    ],
)  # fmt: skip
def test_what_is_left_alone(nodes: list, outputs: str) -> None:
    graph = raw(nodes, statistics(3) | {"w": sample(3, 3, 1, 1), "v": sample(3, 1, 1, 1)}, outputs=outputs)
    folded = fold_batchnorm(graph)
    assert ops(folded) == ops(graph)
    x = sample(2, 3, 8, 8)
    for before, after in zip(run(graph, x), run(folded, x), strict=True):
        assert np.array_equal(before, after)


def test_the_graph_that_was_given_stays() -> None:
    graph = raw([n("Conv", "x w", "c"), NORM], statistics(3) | {"w": sample(3, 3, 1, 1)})
    fold_batchnorm(graph)
    assert ops(graph) == ["Conv", "BatchNormalization"]
