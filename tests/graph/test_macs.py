"""Multiply-accumulates, counted by hand."""

import numpy as np
import pytest

from edgeq.graph.execute import shapes, to_torch
from edgeq.graph.graph import parameters
from edgeq.graph.macs import macs
from edgeq.graph.passes import clean

from .passes.raw import n, raw, sample


@pytest.mark.parametrize(
    ("node", "constants", "shape", "expected"),
    [
        (n("Conv", "x w b", pads=[1, 1, 1, 1]), {"w": (16, 3, 3, 3), "b": (16,)}, (3, 8, 8), 16 * 8 * 8 * 3 * 9),
        (n("Conv", "x w", strides=[2, 2]), {"w": (16, 3, 3, 3)}, (3, 9, 9), 16 * 4 * 4 * 3 * 9),
        (n("Conv", "x w", group=4), {"w": (4, 1, 3, 3)}, (4, 8, 8), 4 * 6 * 6 * 9),
        (n("Conv", "x w"), {"w": (5, 3, 3)}, (3, 10), 5 * 8 * 3 * 3),
        (n("ConvTranspose", "x w", strides=[2, 2]), {"w": (3, 5, 2, 2)}, (3, 8, 8), 3 * 8 * 8 * 5 * 4),
        (n("Gemm", "x w b", transB=1), {"w": (7, 20), "b": (7,)}, (20,), 7 * 20),
        (n("MatMul", "x w"), {"w": (20, 7)}, (5, 20), 5 * 7 * 20),
        (n("MatMul", "x x"), {}, (2, 6, 6), 2 * 6 * 6 * 6),
        (n("Add", "x w"), {"w": (20,)}, (20,), 0),
    ],
)
def test_one_op(node: object, constants: dict[str, tuple[int, ...]], shape: tuple[int, ...], expected: int) -> None:
    arrays = {key: sample(*dims) for key, dims in constants.items()}
    graph = clean(raw([node], arrays, ("n", *shape)))  # type: ignore[list-item]
    found = macs(graph, shapes(graph, to_torch(graph)))
    assert found == ({node.name: expected} if expected else {})  # type: ignore[attr-defined]
    assert parameters(graph) == sum(int(np.prod(dims)) for dims in constants.values())


def test_a_batch_counts_as_often() -> None:
    graph = clean(raw([n("Gemm", "x w", transB=1)], {"w": sample(7, 20)}, ("n", 20)))
    assert macs(graph, shapes(graph, to_torch(graph), batch=3)) == {"Gemm_y": 3 * 7 * 20}
