"""Which units without weights may as well be float: between matrix products and float ops, not between convolutions."""

import numpy as np

from edgeq.graph.graph import Graph
from edgeq.plan.beside_float import beside_float
from edgeq.plan.rules import Request, decide

from ..graphs import graph_of, n, weights

WIDTH = 8
DRAWN = weights(a=(WIDTH, WIDTH), b=(WIDTH, WIDTH), t=(WIDTH,))


def named(graph: Graph) -> tuple[str, ...]:
    return beside_float(graph, decide(graph, Request()))


def test_the_gate_between_matrix_products() -> None:
    nodes = [n("MatMul", "x a", "m"), n("Sigmoid", "m", "s"), n("Mul", "m s", "g"), n("MatMul", "g b", "y")]
    assert named(graph_of(nodes, DRAWN, ("n", 4, WIDTH))) == ("Sigmoid_s", "Mul_g")


def test_arithmetic_connected_to_a_float_op_with_what_moves_it() -> None:
    nodes = [
        n("MatMul", "x a", "m"),
        n("Mul", "m t", "r"),
        n("Transpose", "r", "u", perm=[0, 2, 1]),
        n("MatMul", "r u", "q"),
        n("Erf", "q", "e"),
        n("MatMul", "e m", "v"),
        n("MatMul", "v b", "y"),
    ]
    graph = graph_of(nodes, DRAWN, ("n", 4, WIDTH))
    skeleton = decide(graph, Request())
    assert not next(unit for unit in skeleton.units if unit.op == "Erf").integer
    assert set(beside_float(graph, skeleton)) == {"Mul_r", "Transpose_u", "MatMul_q", "MatMul_v"}


def test_what_lies_between_convolutions_stays_integer() -> None:
    kernels = weights(w=(3, 3, 1, 1), v=(3, 3, 1, 1))
    nodes = [n("Conv", "x w", "c"), n("Sigmoid", "c", "s"), n("Mul", "c s", "g"), n("Conv", "g v", "y")]
    assert named(graph_of(nodes, kernels)) == ()


def test_a_residual_sum_of_convolutions_stays_integer_even_beside_a_matrix_product() -> None:
    constants = weights(w=(3, 3, 1, 1)) | {"m": np.ones((8, 4), np.float32)}
    nodes = [n("Conv", "x w", "c"), n("Add", "c x", "s"), n("MatMul", "s m", "y")]
    assert named(graph_of(nodes, constants)) == ()
