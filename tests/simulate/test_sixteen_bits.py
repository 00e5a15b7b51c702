"""16-bit activations with 8-bit weights: the simulation against LiteRT's 16x8 kernels, op by op."""

import numpy as np
import pytest

from edgeq.plan.bits import Bits
from edgeq.plan.rules import Request
from edgeq.simulate.kernels import family

from .networks import Network, graph_of
from .test_kernels import CASES, Case, n, quantized

WEIGHT = np.random.default_rng(0).normal(size=(4, 4, 1, 1)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(3, 4, 6, 6)).astype(np.float32)
REQUEST = Request(bits=Bits.parse("w8a16"))

#: The largest difference in steps of 1 / 2^15 of the range, where LiteRT computes by tables or with 8-bit slopes.
BOUNDS = {
    "add and relu": 1,
    "softmax": 128,
    "sigmoid": 1,
    "tanh": 3,
    "gelu": 3,
    "prelu": 80,
    "linear resize": 2,
    "hard sigmoid": 1,
    "leaky relu": 1,
}
#: Their kernels take 8-bit codes only.
MISSING = {"elu": "Elu"}
MORE = {
    "space to depth": Case("SpaceToDepth", [n("SpaceToDepth", "p", blocksize=2)]),
    "pixel shuffle": Case("DepthToSpace", [n("DepthToSpace", "p", blocksize=2, mode="CRD")]),
}


@pytest.mark.parametrize("name", [name for name in (CASES | MORE) if name not in MISSING])
def test_simulated_codes_are_litert_s(name: str) -> None:
    case = (CASES | MORE)[name]
    network, samples = quantized(case, 0, REQUEST)
    assert network.integer(case.op)
    samples = [array[: max(1, len(array) // 2)] for array in samples]
    simulated, deployed = network.simulate(family("xnnpack"), samples), network.litert(samples)
    assert len(np.unique(simulated)) > 1000, "too few codes to tell 16 bits from 8"
    assert np.abs(simulated - deployed).max() <= BOUNDS.get(name, 0)


@pytest.mark.parametrize("name", MISSING)
def test_what_has_no_wide_kernel_is_float_and_the_file_runs(name: str) -> None:
    graph = graph_of([n("Conv", "x w", "c"), n(MISSING[name], "c", "h"), n("Conv", "h v")],
                     {"x": ["n", 4, 6, 6]}, {"w": WEIGHT, "v": WEIGHT})  # fmt: skip
    network = Network.of(graph, [X], REQUEST)
    (unit,) = (unit for unit in network.plan.units if unit.op == MISSING[name])
    assert (unit.integer, unit.reason) == (False, f"{unit.op} has a kernel on 8-bit codes only")
    difference = np.abs(network.simulate(family("xnnpack"), [X]) - network.litert([X]))
    # The float part in another order of float32 operations moves a code of 65,536 by one.
    assert difference.max() <= 1


def test_the_bounds_are_needed() -> None:
    # Each op in the table was seen to differ; a formula that matches should lose its entry.
    for name in ("sigmoid", "tanh"):
        network, samples = quantized(CASES[name], 0, REQUEST)
        samples = [array[:4] for array in samples]
        assert (network.simulate(family("xnnpack"), samples) != network.litert(samples)).any()
