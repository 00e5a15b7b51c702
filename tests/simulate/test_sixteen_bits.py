"""16-bit activations with 8-bit weights: the simulation against LiteRT's 16x8 kernels, op by op."""

import numpy as np
import pytest

from edgeq.plan.bits import Bits
from edgeq.plan.rules import Request
from edgeq.simulate.kernels import family

from .test_kernels import CASES, quantized

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
}
#: LiteRT has no kernel for them on 16 bits.
MISSING = {"hard sigmoid", "hard swish", "leaky relu", "elu", "depth to space"}


@pytest.mark.parametrize("name", [name for name in CASES if name not in MISSING])
def test_simulated_codes_are_litert_s(name: str) -> None:
    network, samples = quantized(CASES[name], 0, REQUEST)
    assert network.integer(CASES[name].op)
    samples = [array[: max(1, len(array) // 2)] for array in samples]
    simulated, deployed = network.simulate(family("xnnpack"), samples), network.litert(samples)
    assert len(np.unique(simulated)) > 1000, "too few codes to tell 16 bits from 8"
    assert np.abs(simulated - deployed).max() <= BOUNDS.get(name, 0)


def test_the_bounds_are_needed() -> None:
    # Each op in the table was seen to differ; a formula that matches should lose its entry.
    for name in ("sigmoid", "tanh"):
        network, samples = quantized(CASES[name], 0, REQUEST)
        samples = [array[:4] for array in samples]
        assert (network.simulate(family("xnnpack"), samples) != network.litert(samples)).any()
