"""What the rules leave in float by what it is for: computed masks, spectra, arithmetic that only float ops read."""

import numpy as np
import pytest

from edgeq.graph.graph import Graph
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Unit
from edgeq.plan.rules import Request, decide

from ..graphs import graph_of, n, weights

W = weights(w=(4, 3, 3, 3), v=(4, 4, 1, 1), g=(4, 1, 1), f=(6, 3, 8, 1))
TWO, TINY, HUGE = np.float32(2), np.float32(1e-6), np.float32(-1e4)
CONV = n("Conv", "x w", "c", pads=[1, 1, 1, 1])


def units(nodes: list, more: dict | None = None, outputs: str = "y", **request: object) -> dict[str, Unit]:
    graph: Graph = graph_of(nodes, W | (more or {}), outputs=outputs)
    return {unit.name: unit for unit in decide(graph, Request(**request)).units}  # type: ignore[arg-type]


# Masks.


def attention(mask: list) -> list:
    return [CONV, *mask, n("Add", "c mask", "s"), n("Softmax", "s", "p"), n("Conv", "p v")]


def test_a_mask_that_is_computed_from_the_input_stays_float() -> None:
    found = units(
        attention([n("Abs", "x", "a"), n("ReduceMax", "a axis", "m"), n("Mul", "m huge", "mask")]),
        {"axis": np.array([1]), "huge": HUGE},
    )
    assert not found["Add_s"].integer
    assert found["Add_s"].reason.startswith("adds the mask 'mask', beside whose numbers")
    assert found["Conv_y"].integer


def test_a_mask_that_is_made_from_a_layers_shape_stays_float() -> None:
    mask = [n("Shape", "c", "form"), n("ConstantOfShape", "form", "zeros"), n("Add", "zeros huge", "mask")]
    assert not units(attention(mask), {"huge": HUGE})["Add_s"].integer


def test_a_sum_of_two_layers_before_a_softmax_is_integer() -> None:
    assert units(attention([n("Conv", "c v", "mask")]))["Add_s"].integer


def test_a_sum_that_no_softmax_reads_is_integer() -> None:
    found = units([CONV, n("Abs", "c", "z"), n("Conv", "z v", "d"), n("Add", "c d")])
    assert found["Add_y"].integer


def test_who_asks_for_integers_by_name_gets_them() -> None:
    nodes = attention([n("Mul", "x huge", "h"), n("ReduceMax", "h axis", "mask")])
    more = {"axis": np.array([1]), "huge": HUGE}
    assert not units(nodes, more)["Add_s"].integer
    assert units(nodes, more, overrides=[("Add_s", Bits(8, 8))])["Add_s"].integer


# Spectra.


SLICE = {"start": np.array([0]), "end": np.array([3]), "axis": np.array([1])}
TRANSFORM = [n("Conv", "x f", "c"), n("Slice", "c start end axis", "r")]


@pytest.mark.parametrize("square", [[n("Pow", "r two", "q")], [n("Mul", "r r", "q")]])
def test_a_transform_with_the_logarithm_of_its_square_stays_float(square: list) -> None:
    nodes = [*TRANSFORM, *square, n("ReduceSum", "q axis", "s"), n("Clip", "s tiny", "k"), n("Log", "k")]
    found = units(nodes, SLICE | {"two": TWO, "tiny": TINY})
    assert found["Conv_c"].reason.startswith("the logarithm of its square is taken: a spectrum spans more decades")


def test_a_transform_with_the_root_of_its_square_is_integer() -> None:
    nodes = [*TRANSFORM, n("Pow", "r two", "q"), n("ReduceSum", "q axis", "s"), n("Sqrt", "s")]
    assert units(nodes, SLICE | {"two": TWO})["Conv_c"].integer


def test_a_sum_that_goes_into_a_logarithm_stays_float() -> None:
    found = units([n("Abs", "x", "a"), n("Conv", "a f", "c"), n("Clip", "c tiny", "k"), n("Log", "k")], {"tiny": TINY})
    assert "goes into a logarithm" in found["Conv_c"].reason


@pytest.mark.parametrize("nodes", [
    [CONV, n("Pow", "c two", "p"), n("Log", "p", "q"), n("Relu", "c")],
    [CONV, n("Pow", "c three", "p"), n("Log", "p")],
    [CONV, n("Mul", "c g", "y"), n("Pow", "c two", "p"), n("Log", "p", "q")],
])  # fmt: skip
def test_a_layer_that_is_read_otherwise_too_is_integer(nodes: list) -> None:
    outputs = "q y" if any(node.output[0] == "q" for node in nodes) else "y"
    assert units(nodes, {"two": TWO, "three": np.float32(3)}, outputs)["Conv_c"].integer


def test_a_layer_whose_output_is_the_models_is_integer() -> None:
    nodes = [CONV, n("Pow", "c two", "p"), n("Log", "p", "q")]
    assert units(nodes, {"two": TWO}, "q c")["Conv_c"].integer
    assert not units(nodes, {"two": TWO}, "q")["Conv_c"].integer


# Islands.


def test_a_sum_that_only_float_ops_read_stays_float() -> None:
    found = units([CONV, n("Conv", "c v", "d"), n("Add", "c d", "s"), n("Erf", "s")])
    assert (found["Add_s"].integer, found["Add_s"].reason) == (
        False,
        "only float ops read it, and dequantize it at once",
    )
    assert found["Conv_d"].integer


def test_what_merely_moves_it_follows() -> None:
    found = units([CONV, n("HardSwish", "c", "s"), n("Transpose", "s", "t", perm=[0, 2, 3, 1]), n("Erf", "t")])
    assert not found["HardSwish_s"].integer
    assert not found["Transpose_t"].integer


def test_what_moves_a_layers_output_stays_integer() -> None:
    assert units([CONV, n("Transpose", "c", "t", perm=[0, 2, 3, 1]), n("Erf", "t")])["Transpose_t"].integer


@pytest.mark.parametrize("after", [[n("Conv", "s v")], [n("Transpose", "s", "t", perm=[0, 1, 3, 2]), n("Conv", "t v")]])
def test_a_sum_that_a_layer_reads_is_integer(after: list) -> None:
    assert units([CONV, n("HardSwish", "c", "s"), n("Erf", "s", "e"), *after], outputs="y e")["HardSwish_s"].integer


def test_a_sum_that_is_the_models_output_is_integer() -> None:
    assert units([CONV, n("HardSwish", "c", "s"), n("Erf", "s")], outputs="y s")["HardSwish_s"].integer
