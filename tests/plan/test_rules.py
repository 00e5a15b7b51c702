"""Which nodes run as one op, what is integer, and the reason of every "no"."""

import numpy as np
import pytest

from edgeq.errors import PlanError
from edgeq.graph.graph import Graph
from edgeq.plan.bits import FLOAT, Bits
from edgeq.plan.plan import Skeleton, Unit
from edgeq.plan.rules import Request, decide
from edgeq.plan.units import group

from ..graphs import graph_of, n, weights

W = weights(w=(4, 3, 3, 3), b=(4,), v=(4, 4, 1, 1))
CONV = n("Conv", "x w b", "c", pads=[1, 1, 1, 1], module="stem.conv")
PADS = {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
TWICE = {"s": np.array([1, 1, 2, 2], np.float32)}
LOW, HIGH = np.array(0, np.float32), np.array(6, np.float32)


def units(graph: Graph) -> dict[str, Unit]:
    return {unit.name: unit for unit in group(graph)}


def decided(graph: Graph, **request: object) -> tuple[Skeleton, dict[str, Unit]]:
    skeleton = decide(graph, Request(**request))  # type: ignore[arg-type]
    return skeleton, {unit.name: unit for unit in skeleton.units}


# Units.


def test_a_convolution_takes_its_activation() -> None:
    graph = graph_of([CONV, n("Relu", "c")], W)
    (unit,) = group(graph)
    assert unit.nodes == ("Conv_c", "Relu_y")
    assert (unit.op, unit.weight, unit.bias, unit.module) == ("Conv", "w", "b", "stem.conv")
    assert (unit.inputs, unit.outputs) == (("x",), ("y",))
    assert unit.clamp == (0.0, np.inf)


def test_a_clip_with_constant_bounds_is_an_activation() -> None:
    (unit,) = group(graph_of([CONV, n("Clip", "c low high")], W | {"low": LOW, "high": HIGH}))
    assert unit.clamp == (0.0, 6.0)


def test_a_clip_with_one_bound() -> None:
    (unit,) = group(graph_of([CONV, n("Clip", "c . high")], W | {"high": HIGH}))
    assert unit.clamp == (-np.inf, 6.0)


def test_an_activation_of_a_value_that_others_read_stands_alone() -> None:
    found = units(graph_of([CONV, n("Relu", "c", "r"), n("Add", "c r")], W))
    assert set(found) == {"Conv_c", "Relu_r", "Add_y"}
    assert found["Conv_c"].clamp is None


def test_an_activation_of_an_output_stands_alone() -> None:
    assert set(units(graph_of([CONV, n("Relu", "c")], W, outputs="c y"))) == {"Conv_c", "Relu_y"}


def test_a_matrix_product_takes_its_bias_and_activation() -> None:
    constants = weights(m=(8, 5), b=(5,))
    (unit,) = group(graph_of([n("MatMul", "x m", "p"), n("Add", "b p", "s"), n("Relu", "s")], constants, ("n", 8)))
    assert unit.nodes == ("MatMul_p", "Add_s", "Relu_y")
    assert (unit.op, unit.weight, unit.bias) == ("MatMul", "m", "b")


@pytest.mark.parametrize("shape", [(1,), (5, 5)])
def test_what_is_no_bias_of_a_matrix_product(shape: tuple[int, ...]) -> None:
    constants = weights(m=(8, 5), b=shape)
    found = units(graph_of([n("MatMul", "x m", "p"), n("Add", "p b")], constants, (5, 8)))
    assert found["MatMul_p"].bias is None
    assert "Add_y" in found


def test_a_unit_stands_where_its_last_node_does() -> None:
    # The bias-like branch is computed between the convolution and the activation.
    nodes = [
        CONV,
        n("Sigmoid", "x", "s"),
        n("Relu", "c", "r"),
        n("Conv", "s w b", "d", pads=[1, 1, 1, 1]),
        n("Add", "r d"),
    ]
    order = [unit.name for unit in group(graph_of(nodes, W))]
    assert order.index("Conv_c") < order.index("Add_y")
    known: set[str] = {"x"}
    for unit in group(graph_of(nodes, W)):
        assert set(unit.inputs) <= known
        known |= set(unit.outputs)


# Integer or float, and why.


def test_a_plain_network_is_integer_throughout() -> None:
    nodes = [
        CONV,
        n("Relu", "c", "r"),
        n("MaxPool", "r", "m", kernel_shape=[2, 2]),
        n("GlobalAveragePool", "m", "g"),
        n("Flatten", "g"),
    ]
    skeleton, found = decided(graph_of(nodes, W))
    assert all(unit.integer for unit in found.values())
    assert {unit.reason for unit in found.values()} == {"integer w8a8"}
    assert set(skeleton.groups) == {"x", "r", "m", "g", "y"}


@pytest.mark.parametrize(
    ("nodes", "constants", "unit", "reason"),
    [
        ([CONV, n("Erf", "c")], W, "Erf_y", "Erf has no integer kernel in ONNX Runtime or LiteRT"),
        ([n("Relu", "x", "r"), n("Conv", "r w b")], W, "Relu_r", ""),
        ([n("Sigmoid", "x", "r"), n("Conv", "r w b")], W, "Sigmoid_r", "nothing before it is integer"),
        ([CONV, n("Conv", "x c")], W, "Conv_y", "weights that are not constant"),
        ([CONV, n("Pad", "c p", mode="reflect")], W | PADS, "Pad_y", "only constant padding"),
        ([CONV, n("Pad", "c p high")], W | PADS | {"high": HIGH}, "Pad_y", "padding with zero"),
        ([CONV, n("Resize", "c . s", mode="cubic")], W | TWICE, "Resize_y", "cubic"),
        ([CONV, n("ReduceMax", "c", "m", keepdims=0), n("Clip", "c . m")], W, "Clip_y", "bounds of Clip are computed"),
        ([CONV, n("Shape", "c", "s"), n("Cast", "s", "f", to=1), n("Sigmoid", "f")], W, "Shape_s", "shapes or indices"),
    ],
)  # fmt: skip
def test_what_stays_float_and_why(nodes: list, constants: dict, unit: str, reason: str) -> None:
    _, found = decided(graph_of(nodes, constants))
    if not reason:
        assert found[unit].integer
        return
    assert not found[unit].integer
    assert reason in found[unit].reason


@pytest.mark.parametrize(("operands", "shape"), [("m x", (4, 8)), ("x m", (2, 3, 4, 3))])
def test_a_constant_that_is_no_weight(operands: str, shape: tuple[int, ...]) -> None:
    graph = graph_of([n("Relu", "x", "r"), n("MatMul", operands.replace("x", "r"))], weights(m=shape), (2, 3, 8, 4))
    _, found = decided(graph)
    assert not found["MatMul_y"].integer


@pytest.mark.parametrize("attributes", [{"alpha": 2.0}, {"beta": 0.5}, {"transA": 1}])
def test_a_matrix_product_that_no_kernel_has(attributes: dict) -> None:
    graph = graph_of([n("Gemm", "x m b", **attributes)], weights(m=(8, 5), b=(5,)), (8, 8))
    _, found = decided(graph)
    assert not found["Gemm_y"].integer
    assert "alpha, beta or transA" in found["Gemm_y"].reason


def test_weight_only() -> None:
    skeleton, found = decided(graph_of([CONV, n("Relu", "c")], W), bits=Bits(4, None))
    assert found["Conv_c"].reason == "weight-only w4"
    assert not found["Conv_c"].integer
    assert skeleton.bits["Conv_c"] == Bits(4, None)
    assert skeleton.groups == {}


# Overrides.

TWO = [CONV, n("Relu", "c", "r"), n("Conv", "r v", module="head.conv")]


@pytest.mark.parametrize("pattern", ["head.conv", "head.*", "Conv_y", "*_y", "y"])
def test_an_override_names_a_layer_by_module_node_or_value(pattern: str) -> None:
    skeleton, found = decided(graph_of(TWO, W), overrides=[(pattern, FLOAT)])
    assert found["Conv_c"].integer
    assert found["Conv_y"].reason == "left in float as asked"
    assert skeleton.bits["Conv_y"] == FLOAT
    assert "y" not in skeleton.groups


def test_the_last_override_wins() -> None:
    skeleton, _ = decided(graph_of(TWO, W), overrides=[("*", Bits(4, 8)), ("head.*", Bits(3, 8))])
    assert skeleton.bits == {"Conv_c": Bits(4, 8), "Conv_y": Bits(3, 8)}


def test_an_override_that_matches_nothing() -> None:
    with pytest.raises(PlanError, match=r"'tail\.\*' matches no layer; layers are for example head.conv, stem.conv"):
        decided(graph_of(TWO, W), overrides=[("tail.*", FLOAT)])


# Grids that are shared, prescribed, bounded.


def test_values_that_only_move_share_a_grid() -> None:
    nodes = [
        CONV, n("MaxPool", "c", "m", kernel_shape=[1, 1]), n("Conv", "x w b", "d", pads=[1, 1, 1, 1]),
        n("Concat", "m d", "k", axis=1), n("Flatten", "k"),
    ]  # fmt: skip
    skeleton, _ = decided(graph_of(nodes, W))
    assert len({skeleton.groups[value] for value in ("c", "m", "d", "k", "y")}) == 1
    assert skeleton.groups["x"] != skeleton.groups["c"]


@pytest.mark.parametrize(
    ("op", "scale", "zero_point"), [("Sigmoid", 1 / 256, -128), ("Softmax", 1 / 256, -128), ("Tanh", 1 / 128, 0)]
)
def test_grids_that_the_runtimes_prescribe(op: str, scale: float, zero_point: int) -> None:
    skeleton, _ = decided(graph_of([CONV, n(op, "c")], W))
    grid = skeleton.fixed[skeleton.groups["y"]]
    assert (float(grid.scale), int(grid.zero_point), grid.bits) == (scale, zero_point, 8)
    assert skeleton.groups["c"] not in skeleton.fixed


def test_a_clamp_bounds_its_group() -> None:
    nodes = [CONV, n("Clip", "c low high", "r"), n("MaxPool", "r", kernel_shape=[2, 2])]
    skeleton, _ = decided(graph_of(nodes, W | {"low": LOW, "high": HIGH}))
    assert skeleton.clamps == {skeleton.groups["y"]: (0.0, 6.0)}


def test_a_value_without_a_clamp_frees_its_group() -> None:
    nodes = [CONV, n("Relu", "c", "r"), n("Conv", "x w b", "d", pads=[1, 1, 1, 1]), n("Concat", "r d", axis=1)]
    skeleton, _ = decided(graph_of(nodes, W))
    assert skeleton.clamps == {}


def test_the_widest_reader_decides_an_activations_bits() -> None:
    skeleton, _ = decided(graph_of(TWO, W), overrides=[("head.*", Bits(8, 16))])
    assert [skeleton.activation_bits(value) for value in ("x", "r", "y")] == [8, 16, 16]


@pytest.mark.parametrize(("right", "centred"), [("c", True), ("s", False), ("r", False)])
def test_the_right_operand_of_a_product_of_two_activations_is_centred(right: str, centred: bool) -> None:
    # Not where the runtimes prescribe its grid, nor where half of the codes would be lost.
    nodes = [CONV, n("Softmax", "c", "s", axis=-1), n("Conv", "x w b", "d", pads=[1, 1, 1, 1]), n("Relu", "d", "r")]
    skeleton, _ = decided(graph_of([*nodes, n("MatMul", f"c {right}")], W, outputs="y s r"))
    assert (skeleton.groups[right] in skeleton.centred) == centred


@pytest.mark.parametrize("huge", [-np.inf, np.finfo(np.float32).min])
def test_an_attention_mask_stays_float(huge: float) -> None:
    mask = np.where(np.arange(4).reshape(1, 4, 1, 1) > 1, huge, 0).astype(np.float32)
    _, found = decided(graph_of([CONV, n("Add", "c mask")], W | {"mask": mask}))
    assert not found["Add_y"].integer
    assert "mask" in found["Add_y"].reason


def test_few_activation_bits_are_for_what_layers_multiply() -> None:
    nodes = [
        n("Conv", "x w", "c"),
        n("Add", "c x", "s"),
        n("Relu", "s", "r"),
        n("Conv", "r v", "d"),
        n("Add", "d r", "y"),
    ]
    skeleton = decide(graph_of(nodes, weights(w=(3, 3, 1, 1), v=(3, 3, 1, 1))), Request(Bits(4, 4)))
    bits = {value: skeleton.activation_bits(value) for value in skeleton.groups}
    # A sum's operand and the model's output lie in 8 bits in every file: a coarser grid would save nothing.
    assert bits == {"x": 4, "c": 8, "r": 4, "d": 8, "y": 8}


def test_attentions_own_products_keep_eight_bits() -> None:
    nodes = [n("MatMul", "x w", "q"), n("MatMul", "x v", "k"), n("MatMul", "q k", "s"), n("MatMul", "s u", "y")]
    skeleton = decide(graph_of(nodes, weights(w=(3, 3), v=(3, 3), u=(3, 3)), (1, 3, 3)), Request(Bits(4, 4)))
    bits = {value: skeleton.activation_bits(value) for value in skeleton.groups}
    assert bits == {"x": 4, "q": 8, "k": 8, "s": 4, "y": 8}
