"""A graph as a PyTorch module: any batch, differentiable, values by name, memory of dead values released."""

import gc
import weakref

import numpy as np
import onnx_ir as ir
import pytest
import torch

from edgeq.errors import ModelError, UnsupportedOpError
from edgeq.graph.execute import _SHARED, as_tensor, iterate_values, named_outputs, shapes, to_torch, zeros_for
from edgeq.graph.graph import Graph, name
from edgeq.graph.passes import clean

from .passes.raw import n, raw, run, sample

NODES = [
    n("Conv", "x w b", "c", pads=[1, 1, 1, 1]), n("Relu", "c", "r"), n("Split", "r", "s t", axis=1),
    n("Add", "s t", "a"), n("GlobalAveragePool", "a", "g"), n("Flatten", "g", "f"), n("Gemm", "f v", "y", transB=1),
]  # fmt: skip


@pytest.fixture(scope="module")
def graph() -> Graph:
    return clean(raw(NODES, {"w": sample(8, 3, 3, 3), "b": sample(8), "v": sample(5, 4)}, outputs="y a"))


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_batch_gives_what_onnx_runtime_does(graph: Graph, batch: int) -> None:
    x = sample(batch, 3, 8, 8, seed=batch)
    with torch.no_grad():
        found = named_outputs(graph, to_torch(graph)(torch.from_numpy(x)))
    for key, expected in zip(("y", "a"), run(graph, x), strict=True):
        assert np.allclose(found[key].numpy(), expected, rtol=1e-4, atol=1e-5)  # sums in another order


def test_samples_of_a_batch_do_not_meet(graph: Graph) -> None:
    x, module = torch.from_numpy(sample(4, 3, 8, 8)), to_torch(graph)
    together = module(x)[0]
    alone = torch.cat([module(x[i : i + 1])[0] for i in range(4)])
    assert torch.allclose(together, alone, rtol=1e-5, atol=1e-5)  # another blocking of the sums


def test_gradients_reach_the_input(graph: Graph) -> None:
    x = torch.from_numpy(sample(2, 3, 8, 8)).requires_grad_()
    to_torch(graph)(x)[0].square().sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum((1, 2, 3)) > 0).all()


def test_values_come_by_name_and_in_order(graph: Graph) -> None:
    found = dict(iterate_values(to_torch(graph), (torch.from_numpy(sample(2, 3, 8, 8)),)))
    assert {"x", "c", "r", "s", "t", "a", "g", "f", "y"} <= found.keys()
    assert torch.equal(found["r"], found["c"].relu())
    assert torch.equal(found["a"], found["s"] + found["t"])


def test_only_what_is_wanted_is_given(graph: Graph) -> None:
    wanted = frozenset({"c", "y", "x"})
    assert [value for value, _ in iterate_values(to_torch(graph), (torch.zeros(1, 3, 8, 8),), wanted)] == [
        "x",
        "c",
        "y",
    ]


def test_dead_values_are_released() -> None:
    length = 12
    nodes = [n("Mul", f"{'x' if i == 0 else f'v{i - 1}'} two", f"v{i}") for i in range(length)]
    graph = clean(raw(nodes, {"two": np.array(1.5, np.float32)}, outputs=f"v{length - 1}"))
    alive, most = [], 0
    for _, tensor in iterate_values(to_torch(graph), (torch.zeros(2, 3, 8, 8),)):
        alive.append(weakref.ref(tensor))
        del tensor
        gc.collect()
        most = max(most, sum(reference() is not None for reference in alive))
    assert len(alive) > length
    assert most <= 5, "each value, what it is made from, and the constant: no more"


def test_shapes_of_one_sample(graph: Graph) -> None:
    found = shapes(graph, to_torch(graph))
    assert found["x"] == (1, 3, 8, 8)
    assert found["c"] == (1, 8, 8, 8)
    assert found["y"] == (1, 5)
    assert shapes(graph, to_torch(graph), batch=3)["y"] == (3, 5)


def test_an_input_of_unknown_shape() -> None:
    value = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["n", 3, "h", "w"]))
    with pytest.raises(ModelError, match=r"'x' has unknown dimensions .* --shape x=1,3,1,1"):
        zeros_for(value)
    with pytest.raises(ModelError, match="no declared shape"):
        zeros_for(ir.Value(name="x"))


@pytest.mark.parametrize(
    ("dtype", "expected"), [("INT64", torch.int64), ("BOOL", torch.bool), ("DOUBLE", torch.float64)]
)
def test_inputs_of_other_types(dtype: str, expected: torch.dtype) -> None:
    value = ir.Value(name="x", type=ir.TensorType(ir.DataType[dtype]), shape=ir.Shape(["n", 4]))
    assert zeros_for(value, 2).dtype == expected
    assert zeros_for(value, 2).shape == (2, 4)


def test_an_attribute_that_an_op_does_not_have() -> None:
    graph = clean(raw([n("Relu", "x")]))
    graph.nodes[0].attributes.add(ir.AttrInt64("no_such_attribute", 1))
    with pytest.raises(UnsupportedOpError, match="Relu_y"):
        to_torch(graph)


def test_a_module_knows_its_onnx_nodes(graph: Graph) -> None:
    calls = {node.meta["onnx"] for node in to_torch(graph).graph.nodes if "onnx" in node.meta}
    assert calls == {name(node) for node in graph.nodes}


def test_a_large_constant_that_cannot_be_written_is_used_where_it_lies() -> None:
    large = np.frombuffer(bytes(_SHARED), np.float32)
    assert as_tensor(large).data_ptr() == large.ctypes.data
    own = np.zeros(_SHARED, np.float32)
    assert as_tensor(own).data_ptr() != own.ctypes.data
