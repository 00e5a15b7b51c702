"""Activations of 2 to 7 bits: every code that the runtimes' 8-bit kernels make is the integer simulation's."""

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert.interpreter import OpResolverType

from edgeq.plan.bits import FLOAT, Bits
from edgeq.plan.rules import Request
from edgeq.plan.units import group
from edgeq.simulate.kernels import Family, family

from .networks import Network, graph_of
from .test_kernels import BLOCK, CASES, CLIP, RUNTIMES, WEIGHTS, _random, compare, n, quantized

pytestmark = pytest.mark.usefixtures("every_value_narrow")

#: Kernel family -> how LiteRT is asked for those kernels.
KERNELS = {
    "xnnpack": OpResolverType.AUTO,
    "ruy": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "litert-reference": OpResolverType.BUILTIN_REF,
}
#: Each op at one width, so that all of them together take seconds.
WIDTHS = dict(zip(CASES, (2, 3, 4, 5, 6, 7) * len(CASES), strict=False))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", CASES)
def test_every_op_stays_on_its_grid(name: str, runtime: str) -> None:
    case, bits = CASES[name], Bits(4, WIDTHS[name])
    network, samples = quantized(case, 0, Request(bits=bits))
    assert network.integer(case.op)
    few = [3 * array[:4] for array in samples]  # beyond the calibrated range, so that all ends are reached
    simulated, deployed = network.simulate(family(runtime), few), RUNTIMES[runtime](network, few)
    compare(simulated, deployed, case.bound.get(runtime, 0))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7])
def test_whole_networks_are_equal(bits: int, kernels: str) -> None:
    """ReLU6, depthwise, residual, squeeze-and-excitation, products, pooling, concatenation, dense."""
    rng = np.random.default_rng(bits)
    constants = {key: _random(rng, shape) for key, shape in WEIGHTS.items()} | CLIP
    graph = graph_of(BLOCK, {"x": ["n", 3, 12, 12]}, constants)
    samples = [rng.normal(size=(16, 3, 12, 12)).astype(np.float32)]
    network = Network.of(graph, samples, Request(bits=Bits(bits, bits)))
    assert all(unit.integer for unit in network.plan.units)
    beyond = [2 * samples[0]]
    simulated, deployed = network.simulate(family(kernels), beyond), network.litert(beyond, KERNELS[kernels])
    assert np.array_equal(simulated, deployed)


@pytest.mark.parametrize("seed", range(3))
def test_layers_of_different_widths_and_in_float(seed: int) -> None:
    rng = np.random.default_rng(seed)
    constants = {key: _random(rng, shape) for key, shape in WEIGHTS.items()} | CLIP
    graph = graph_of(BLOCK, {"x": ["n", 3, 12, 12]}, constants)
    names = [unit.name for unit in group(graph)]
    widths = [(name, Bits(*map(int, rng.integers(2, 9, 2)))) for name in names if rng.random() < 0.7]
    left = [(names[int(rng.integers(1, len(names) - 1))], FLOAT)] if seed else []
    samples = [rng.normal(size=(16, 3, 12, 12)).astype(np.float32)]
    network = Network.of(graph, samples, Request(bits=Bits(4, 4), overrides=[*widths, *left]))
    assert len({grid.bits for grid in network.plan.activations.values()}) > 2
    beyond = [2 * samples[0]]
    assert np.array_equal(network.simulate(family("xnnpack"), beyond), network.litert(beyond))


@pytest.mark.parametrize("bits", [2, 4])
def test_zero_points_that_have_to_be_zero(bits: int) -> None:
    nodes = [n("Conv", "x w b", "c"), n("Relu", "c", "r"), n("Conv", "r v", "d"), n("Add", "d r")]
    rng = np.random.default_rng(0)
    constants = {"w": _random(rng, (8, 3, 1, 1)), "b": _random(rng, (8,)), "v": _random(rng, (8, 8, 1, 1))}
    samples = [rng.normal(size=(8, 3, 9, 9)).astype(np.float32)]
    graph = graph_of(nodes, {"x": ["n", 3, 9, 9]}, constants)
    network = Network.of(graph, samples, Request(bits=Bits(4, bits), symmetric=True))
    beyond = [2 * samples[0]]
    assert np.array_equal(network.simulate(family("xnnpack"), beyond), network.litert(beyond))


def test_averages_round_as_the_codes_lie_in_the_file() -> None:
    # Half away from zero: of the plan's codes, half of which are negative, or of the file's, which are not.
    network, samples = quantized(CASES["average, 2 x 2"], 0, Request(bits=Bits(8, 4)))
    simulated = network.simulate(family("xnnpack"), samples[:1])
    assert np.array_equal(simulated, network.litert(samples[:1]))
    unshifted = network.simulate(_as_planned(), samples[:1])
    assert (simulated != unshifted).mean() > 0.01


def _as_planned() -> Family:
    return replace(family("xnnpack"), stored=lambda plan: plan)
