"""Folding refuses what would fill the memory, before it does."""

import numpy as np
import onnx
import pytest

from edgeq.errors import ModelError

from ...graphs import graph_of, n


@pytest.mark.parametrize(
    "node",
    [
        n("ConstantOfShape", "huge", "k"),
        n("Expand", "one huge", "k"),
        n("Tile", "one huge", "k"),
        n("Range", "zero end step", "k"),
    ],
    ids=lambda node: node.op_type,
)
def test_a_constant_of_terabytes_is_refused(node: onnx.NodeProto) -> None:
    constants = {
        "huge": np.array([1 << 20, 1 << 20]), "one": np.ones((1, 1), np.float32), "zero": np.float32(0),
        "end": np.float32(2**40), "step": np.float32(1),
    }  # fmt: skip
    with pytest.raises(ModelError, match=r"'\w+' \(\w+\) makes 1,099,511,627,776 numbers from constants"):
        graph_of([node, n("Add", "x k")], constants, (1, 4))


def test_an_ordinary_one_is_folded() -> None:
    graph = graph_of([n("ConstantOfShape", "shape", "k"), n("Sub", "x k")], {"shape": np.array([2, 4])}, (1, 4))
    assert [node.op_type for node in graph.nodes] == ["Sub"]
