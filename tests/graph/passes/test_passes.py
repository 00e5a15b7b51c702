"""The other passes: the outputs stay the same to the last bit, and the graph becomes what each pass says."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeq.graph.graph import MODULE_PATH, NAME_SCOPES, Graph
from edgeq.graph.passes import PASSES, clean
from edgeq.graph.passes.canonicalize import canonicalize
from edgeq.graph.passes.fold_constants import fold_constants
from edgeq.graph.passes.keep_module_paths import keep_module_paths
from edgeq.graph.passes.merge_slices import merge_slices
from edgeq.graph.passes.name_everything import name_everything
from edgeq.graph.passes.pool_from_mean import pool_from_mean
from edgeq.graph.passes.remove_dead import remove_dead

from .raw import n, ops, raw, run, sample


def unchanged(before: Graph, after: Graph, *shape: int) -> None:
    x = sample(*(shape or (2, 3, 8, 8)))
    for first, second in zip(run(before, x), run(after, x), strict=True):
        assert np.array_equal(first, second)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


# Slices.

BOUND = st.integers(-10, 10)


@given(
    st.lists(st.tuples(BOUND, BOUND, st.sampled_from([1, 2, 3, -1, -2])), min_size=2, max_size=2),
    st.permutations([0, 1, 2, 3]),
)
@settings(max_examples=40, deadline=None)
def test_slices_of_different_axes_are_one(parts: list[tuple[int, int, int]], axes: list[int]) -> None:
    constants = {}
    for number, ((start, end, step), axis) in enumerate(zip(parts, axes, strict=False)):
        constants |= {
            f"s{number}": ints(start),
            f"e{number}": ints(end),
            f"a{number}": ints(axis),
            f"t{number}": ints(step),
        }
    graph = raw([n("Slice", "x s0 e0 a0 t0", "m"), n("Slice", "m s1 e1 a1 t1")], constants)
    merged = merge_slices(graph)
    assert ops(merged) == ["Slice"]
    unchanged(graph, merged)


def test_a_chain_of_four_slices() -> None:
    constants = {f"{k}{i}": ints(v) for i in range(4) for k, v in (("s", 1), ("e", 7), ("a", i), ("t", 1))}
    constants["s0"], constants["s1"], constants["e1"] = ints(0), ints(0), ints(2)
    nodes = [
        n("Slice", f"{'x' if i == 0 else f'm{i}'} s{i} e{i} a{i} t{i}", "y" if i == 3 else f"m{i + 1}")
        for i in range(4)
    ]
    merged = merge_slices(raw(nodes, constants))
    assert ops(merged) == ["Slice"]
    unchanged(raw(nodes, constants), merged)


@pytest.mark.parametrize(
    ("first", "second", "outputs"),
    [("s e two", "s e two", "y"), ("s e negative", "s e two", "y"), ("s e two", "s e three", "y m")],
)
def test_slices_that_are_left_alone(first: str, second: str, outputs: str) -> None:
    constants = {"s": ints(1), "e": ints(6), "two": ints(2), "three": ints(3), "negative": ints(-2)}
    graph = raw([n("Slice", f"x {first}", "m"), n("Slice", f"m {second}")], constants, outputs=outputs)
    merged = merge_slices(graph)
    assert ops(merged) == ["Slice", "Slice"]
    unchanged(graph, merged)


# Means.


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", [(2, 3), (-1, -2), (3, 2)])
def test_a_mean_over_all_of_a_map_is_a_pool(keep: int, axes: tuple[int, ...]) -> None:
    graph = raw([n("Relu", "x", "r"), n("ReduceMean", "r", axes=list(axes), keepdims=keep)])
    pooled = pool_from_mean(graph)
    assert ops(pooled) == ["Relu", "GlobalAveragePool"] + ([] if keep else ["Flatten"])
    x = sample(2, 3, 8, 8)
    # Sums in another order: a few units in the last place.
    assert np.allclose(run(graph, x)[0], run(pooled, x)[0], rtol=1e-5, atol=1e-6)
    assert run(graph, x)[0].shape == run(pooled, x)[0].shape


@pytest.mark.parametrize("axes", [(1, 2), (3,), (1, 2, 3), (0, 2, 3)])
def test_other_means_are_left_alone(axes: tuple[int, ...]) -> None:
    graph = raw([n("Relu", "x", "r"), n("ReduceMean", "r", axes=list(axes))])
    assert ops(pool_from_mean(graph)) == ["Relu", "ReduceMean"]


# Constants, dead nodes, names.


def test_what_is_computed_from_constants_is_folded() -> None:
    nodes = [n("Transpose", "w", "t", perm=[1, 0]), n("Mul", "t two", "u"), n("MatMul", "x u")]
    graph = raw(nodes, {"w": sample(5, 8), "two": np.array(2, np.float32)}, ("n", 8))
    folded = fold_constants(canonicalize(graph))
    assert ops(folded) == ["MatMul"]
    unchanged(graph, folded, 3, 8)


def test_shapes_that_depend_on_the_batch_are_not_folded() -> None:
    nodes = [n("Shape", "x", "s"), n("Gather", "s zero", "b"), n("Concat", "b rest", "t", axis=0), n("Reshape", "x t")]
    graph = raw(nodes, {"zero": ints(0), "rest": ints(-1)})
    folded = fold_constants(canonicalize(graph))
    for batch in (1, 5):
        unchanged(graph, folded, batch, 3, 8, 8)


@pytest.mark.parametrize("taken", [True, False])
def test_a_decided_branch_replaces_its_condition(taken: bool) -> None:
    branches = {}
    for key, op in (("then_branch", "Relu"), ("else_branch", "Neg")):
        value = helper.make_tensor_value_info(f"{key}_y", TensorProto.FLOAT, None)
        branches[key] = helper.make_graph([n(op, "x", f"{key}_y")], key, [], [value])
    graph = raw([n("If", "condition", **branches)], {"condition": np.array(taken)})
    folded = remove_dead(fold_constants(canonicalize(graph)))
    assert ops(folded) == (["Relu"] if taken else ["Neg"])
    unchanged(graph, folded)


def test_dead_nodes_go() -> None:
    graph = raw([n("Relu", "x"), n("Conv", "x w", "c"), n("Sigmoid", "c", "d")], {"w": sample(4, 3, 1, 1)})
    alive = remove_dead(graph)
    assert ops(alive) == ["Relu"]
    assert not alive.model.graph.initializers
    unchanged(graph, alive)


def test_names_are_unique_and_the_users_stay() -> None:
    graph = raw([n("Relu", "x", "a"), n("Neg", "a", "b"), n("Abs", "b")])
    other = graph.clone()
    for node in other.model.graph:
        node.name = "same"
    named = name_everything(other)
    names = [node.name for node in named.nodes]
    assert len(set(names)) == 3
    assert names[0] == "same"
    assert [value.name for value in named.outputs] == ["y"]
    unchanged(graph, named)


def test_initializers_that_are_listed_as_inputs() -> None:
    # As exporters wrote them before ONNX 1.4.
    graph = raw([n("Conv", "x w")], {"w": sample(4, 3, 1, 1)})
    graph.model.graph.inputs.append(graph.model.graph.initializers["w"])
    assert [value.name for value in canonicalize(graph).inputs] == ["x"]


# Metadata.


def test_module_paths_stay_and_all_else_goes() -> None:
    graph = raw([n("Conv", "x w", "c"), n("Relu", "c")], {"w": sample(4, 3, 1, 1)})
    conv, relu = graph.nodes
    conv.metadata_props[NAME_SCOPES] = "['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d_1']"
    conv.metadata_props["stack"] = "/secret/model.py"
    conv.doc_string = relu.doc_string = "/secret/model.py"
    relu.metadata_props[NAME_SCOPES] = "not a list("
    graph.model.metadata_props["path"] = graph.model.doc_string = "/secret"
    kept = keep_module_paths(graph)
    assert [dict(node.metadata_props) for node in kept.nodes] == [{MODULE_PATH: "layer1.0.conv1"}, {}]
    assert b"secret" not in ir.to_proto(kept.model).SerializeToString()


# All passes.


def _network(opset: int, **attributes: Any) -> Graph:
    nodes = [
        n("Conv", "x w", "c", pads=[1, 1, 1, 1]), n("BatchNormalization", "c g b m v", "d"), n("Relu", "d", "r"),
        n("Slice", "r s e two", "s1"), n("Slice", "s1 s e three", "s2"), n("Shape", "x", "unused"),
        n("ReduceMean", "s2", "p", axes=[2, 3], keepdims=0), n("Constant", "", "k", value_float=0.5), n("Mul", "p k"),
    ]  # fmt: skip
    constants = {"w": sample(4, 3, 3, 3), "g": sample(4), "b": sample(4), "m": sample(4), "v": np.abs(sample(4)) + 1}
    return raw(nodes, constants | {"s": ints(0), "e": ints(6), "two": ints(2), "three": ints(3)}, opset=opset)


def test_all_passes_together() -> None:
    graph = _network(17)
    cleaned = clean(graph)
    assert ops(cleaned) == ["Conv", "Relu", "Slice", "GlobalAveragePool", "Flatten", "Mul"]
    x = sample(3, 3, 8, 8)
    assert np.allclose(run(graph, x)[0], run(cleaned, x)[0], rtol=1e-4, atol=1e-5)  # folded statistics
    onnx.checker.check_model(ir.to_proto(cleaned.model))


@pytest.mark.parametrize("graph_pass", PASSES, ids=lambda p: p.__name__)
def test_a_pass_is_pure_and_done_in_one_go(graph_pass: Any) -> None:
    graph = name_everything(canonicalize(_network(17)))
    before = ir.to_proto(graph.model).SerializeToString(deterministic=True)
    once = graph_pass(graph)
    assert ir.to_proto(graph.model).SerializeToString(deterministic=True) == before
    assert ops(graph_pass(once)) == ops(once)
