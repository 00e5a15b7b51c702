"""The integer simulation against the runtimes themselves: every code equal, on more than 100,000 codes of every op."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from ai_edge_litert.interpreter import OpResolverType
from onnx import helper

from edgeq.plan.bits import Bits
from edgeq.plan.rules import Request
from edgeq.simulate.kernels import family

from .networks import Network, graph_of

Array = npt.NDArray[Any]
MAPS = (8, 16, 16)
RUNTIMES: dict[str, Callable[[Network, Sequence[Array]], Array]] = {
    "onnxruntime": Network.onnxruntime,
    "xnnpack": Network.litert,
}


@dataclass(frozen=True)
class Case:
    """An op behind convolutions that give it codes of any value.

    Attributes:
        op: its ONNX type.
        nodes: read ``p`` (and ``q``), make ``y``.
        shape: of one sample of every input.
        constants: name -> shape, random; or an array.
        inputs: how many tensors the op reads.
        direct: the op reads the input itself, for it has weights.
        bound: family -> the largest difference in steps, where it is not exact.
    """

    op: str
    nodes: Sequence[onnx.NodeProto]
    shape: tuple[int, ...] = MAPS
    constants: Mapping[str, tuple[int, ...] | Array] = field(default_factory=dict)
    inputs: int = 1
    direct: bool = False
    bound: Mapping[str, int] = field(default_factory=dict)


def n(op: str, inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=f"{op}_{output}", **attributes)


def scalar(value: float) -> Array:
    return np.array(value, np.float32)


CLIP = {"low": scalar(0), "high": scalar(6)}
CONV = {"w": (16, 8, 3, 3), "b": (16,)}
POOL = {"kernel_shape": [3, 3], "strides": [2, 2]}
HALF_PIXEL = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
ASYMMETRIC = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
TWICE = {"scales": np.array([1, 1, 2, 2], np.float32)}

CASES: dict[str, Case] = {
    "conv": Case("Conv", [n("Conv", "p w b", pads=[1, 1, 1, 1])], constants=CONV, direct=True),
    "conv with stride 2": Case("Conv", [n("Conv", "p w b", strides=[2, 2])], (8, 33, 33), CONV, direct=True),
    "conv, padding on one side": Case(
        "Conv", [n("Conv", "p w b", strides=[2, 2], pads=[0, 0, 1, 1])], (8, 32, 32), CONV, direct=True
    ),
    "conv without bias": Case("Conv", [n("Conv", "p w")], (8, 18, 18), {"w": (16, 8, 3, 3)}, direct=True),
    "conv and relu": Case("Conv", [n("Conv", "p w b", "c"), n("Relu", "c")], (8, 18, 18), CONV, direct=True),
    "conv and relu6": Case(
        "Conv", [n("Conv", "p w b", "c"), n("Clip", "c low high")], (8, 18, 18), CONV | CLIP, direct=True
    ),
    "dilated conv": Case("Conv", [n("Conv", "p w b", dilations=[2, 2])], (8, 20, 20), CONV, direct=True),
    "depthwise conv": Case(
        "Conv",
        [n("Conv", "p w b", group=8, pads=[1, 1, 1, 1])],
        (8, 24, 24),
        {"w": (8, 1, 3, 3), "b": (8,)},
        direct=True,
    ),
    "grouped conv": Case(
        "Conv",
        [n("Conv", "p w b", group=2, pads=[1, 1, 1, 1])],
        constants={"w": (16, 4, 3, 3), "b": (16,)},
        direct=True,
    ),
    "transposed conv": Case(
        "ConvTranspose",
        [n("ConvTranspose", "p w b", strides=[2, 2])],
        constants={"w": (8, 8, 2, 2), "b": (8,)},
        direct=True,
        bound={"onnxruntime": 1},  # it has no integer kernel: computed in float32 between the pairs
    ),
    "gemm": Case("Gemm", [n("Gemm", "p w b", transB=1)], (64,), {"w": (1600, 64), "b": (1600,)}, direct=True),
    "matmul": Case("MatMul", [n("MatMul", "p w")], (64,), {"w": (64, 1600)}, direct=True),
    "matmul, bias and relu": Case(
        "MatMul",
        [n("MatMul", "p w", "m"), n("Add", "m b", "a"), n("Relu", "a")],
        (64,),
        {"w": (64, 1600), "b": (1600,)},
        direct=True,
    ),
    "matmul of sequences": Case(
        "MatMul", [n("MatMul", "p w", "m"), n("Add", "b m")], (20, 64), {"w": (64, 80), "b": (80,)}, direct=True
    ),
    "matmul of two": Case("MatMul", [n("MatMul", "p q")], inputs=2),
    "matmul of two, the right one positive": Case("MatMul", [n("Relu", "q", "r"), n("MatMul", "p r")], inputs=2),
    "add": Case("Add", [n("Add", "p q")], inputs=2),
    "add and relu": Case("Add", [n("Add", "p q", "s"), n("Relu", "s")], inputs=2),
    "add a constant": Case("Add", [n("Add", "p k")], constants={"k": (1, 8, 1, 1)}),
    "add a number": Case("Add", [n("Add", "p k")], constants={"k": scalar(0.37)}),
    "subtract": Case("Sub", [n("Sub", "p q")], inputs=2),
    "subtract a constant": Case("Sub", [n("Sub", "p k")], constants={"k": (1, 8, 1, 1)}),
    "multiply": Case("Mul", [n("Mul", "p q")], inputs=2),
    "multiply and relu": Case("Mul", [n("Mul", "p q", "s"), n("Relu", "s")], inputs=2),
    "multiply by a constant": Case("Mul", [n("Mul", "p k")], constants={"k": (1, 8, 1, 1)}),
    "multiply by a number": Case("Mul", [n("Mul", "p k")], constants={"k": scalar(0.37)}),
    "global average, 7 x 7": Case("GlobalAveragePool", [n("GlobalAveragePool", "p")], (2048, 7, 7)),
    "global average, 8 x 8": Case("GlobalAveragePool", [n("GlobalAveragePool", "p")], (2048, 8, 8)),
    "average, 2 x 2": Case("AveragePool", [n("AveragePool", "p", kernel_shape=[2, 2], strides=[2, 2])], (8, 32, 32)),
    "average, 3 x 3": Case("AveragePool", [n("AveragePool", "p", **POOL)], (8, 33, 33)),
    "average with padding": Case("AveragePool", [n("AveragePool", "p", kernel_shape=[3, 3], pads=[1, 1, 1, 1])]),
    "average, padding counted": Case(
        "AveragePool", [n("AveragePool", "p", kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)]
    ),
    "maximum": Case("MaxPool", [n("MaxPool", "p", pads=[1, 1, 1, 1], **POOL)], (8, 32, 32)),
    "softmax": Case(
        "Softmax",
        [n("Gemm", "p w b", "g", transB=1), n("Softmax", "g", axis=-1)],
        (64,),
        {"w": (50, 64), "b": (50,)},
        direct=True,
    ),
    "sigmoid": Case("Sigmoid", [n("Sigmoid", "p")]),
    "tanh": Case("Tanh", [n("Tanh", "p")]),
    "hard sigmoid": Case("HardSigmoid", [n("HardSigmoid", "p")]),
    "hard swish": Case("HardSwish", [n("HardSwish", "p")]),
    "leaky relu": Case("LeakyRelu", [n("LeakyRelu", "p", alpha=0.1)]),
    "elu": Case("Elu", [n("Elu", "p")]),
    "gelu": Case("Gelu", [n("Gelu", "p")]),
    "prelu": Case("PRelu", [n("PRelu", "p k")], constants={"k": (8, 1, 1)}),
    "relu6 alone": Case("Clip", [n("MaxPool", "p", "m", kernel_shape=[1, 1]), n("Clip", "m low high")], constants=CLIP),
    "concatenation": Case("Concat", [n("Concat", "p q", axis=1)], inputs=2),
    "padding": Case("Pad", [n("Pad", "p pads")], constants={"pads": np.array([0, 0, 1, 1, 0, 0, 2, 2])}),
    "nearest resize": Case("Resize", [n("Resize", "p . scales", **ASYMMETRIC)], constants=TWICE),
    "linear resize": Case(
        "Resize",
        [n("Resize", "p . scales", **HALF_PIXEL)],
        constants=TWICE,
        bound={"onnxruntime": 1, "xnnpack": 1},  # fixed-point interpolation weights of 10 and 11 bits
    ),
    "depth to space": Case("DepthToSpace", [n("DepthToSpace", "p", blocksize=2)]),
}


def quantized(case: Case, seed: int, request_: Request | None = None) -> tuple[Network, list[Array]]:
    """The case with random weights, and samples that leave the calibrated range now and then."""
    rng = np.random.default_rng(seed)
    constants: dict[str, Array] = {}
    for key, value in case.constants.items():
        constants[key] = value if isinstance(value, np.ndarray) else _random(rng, value)
    names = "pq"[: case.inputs]
    nodes = []
    for node in case.nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = ["" if key == "." else key for key in node.input]
        nodes.append(copy)
    inputs = {(key if case.direct else f"x_{key}"): ["n", *case.shape] for key in names}
    if not case.direct:
        channels = case.shape[0]
        for key in reversed(names):
            # Depthwise: a scale and a shift for each channel.
            nodes.insert(0, n("Conv", f"x_{key} w_{key} b_{key}", key, group=channels))
            constants |= {f"w_{key}": _random(rng, (channels, 1, 1, 1)), f"b_{key}": _random(rng, (channels,))}
    graph = graph_of(nodes, inputs, constants)
    spread = rng.uniform(0.5, 3, len(names))

    def samples(count: int) -> list[Array]:
        return [(rng.normal(size=(count, *case.shape)) * s).astype(np.float32) for s in spread]

    network = Network.of(graph, samples(2), request_)
    made = int(np.prod([2, *network.simulate(family("xnnpack"), samples(2)).shape[1:]])) // 2
    return network, samples(-(-55_000 // made))


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return (rng.normal(size=shape) * rng.uniform(0.2, 1.5)).astype(np.float32)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", CASES)
def test_simulated_codes_are_the_runtimes(name: str, runtime: str) -> None:
    case, kernels = CASES[name], family(runtime)
    compared = 0
    for seed in range(2):
        network, samples = quantized(case, seed)
        assert network.integer(case.op)
        simulated, deployed = network.simulate(kernels, samples), RUNTIMES[runtime](network, samples)
        assert simulated.shape == deployed.shape
        assert len(np.unique(simulated)) > 20, "too few codes to tell anything"
        compare(simulated, deployed, case.bound.get(runtime, 0))
        compared += simulated.size
    assert compared >= 100_000
    if case.op in kernels.exact:
        assert runtime not in case.bound


def compare(simulated: Array, deployed: Array, bound: int) -> None:
    """No code differs by more than the bound, and few by that."""
    difference = np.abs(simulated - deployed)
    unequal = int((difference > 0).sum())
    assert difference.max() <= bound, f"{unequal} of {difference.size} codes differ, by up to {difference.max():.0f}"
    # One step is the price of another rounding, not of another formula: most codes are equal even so.
    assert unequal <= 0.1 * difference.size


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", ["conv", "depthwise conv", "gemm", "transposed conv"])
def test_one_scale_for_all_channels(name: str, runtime: str) -> None:
    network, samples = quantized(CASES[name], 5, Request(per_channel=False))
    simulated = network.simulate(family(runtime), samples)
    compare(simulated, RUNTIMES[runtime](network, samples), CASES[name].bound.get(runtime, 0))


@pytest.mark.parametrize("name", ["conv", "depthwise conv", "grouped conv"])
def test_convolutions_without_a_delegate(name: str) -> None:
    network, samples = quantized(CASES[name], 6)
    deployed = network.litert(samples[:1], OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    assert np.array_equal(network.simulate(family("ruy"), samples[:1]), deployed)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_constant_is_concatenated_on_the_others_grid(runtime: str, bits: int) -> None:
    rng = np.random.default_rng(0)
    constants = {"w": _random(rng, (4, 3, 1, 1)), "b": _random(rng, (4,)), "k": _random(rng, (1, 2, 5, 5))}
    graph = graph_of([n("Conv", "x w b", "c"), n("Concat", "c k", axis=1)], {"x": [1, 3, 5, 5]}, constants)
    samples = [rng.normal(size=(1, 3, 5, 5)).astype(np.float32)]
    network = Network.of(graph, samples, Request(bits=Bits(8, bits)))
    assert network.integer("Concat")
    assert np.array_equal(network.simulate(family(runtime), samples), RUNTIMES[runtime](network, samples))


BLOCK = [
    n("Conv", "x w1 b1", "c1", pads=[1, 1, 1, 1]), n("Clip", "c1 low high", "r1"),
    n("Conv", "r1 w2 b2", "c2", pads=[1, 1, 1, 1], group=8), n("Clip", "c2 low high", "r2"),
    n("Conv", "r2 w3 b3", "c3"), n("Add", "c3 r1", "a1"),
    n("GlobalAveragePool", "a1", "se1"), n("Conv", "se1 w4 b4", "se2"), n("Sigmoid", "se2", "gate"),
    n("Mul", "a1 gate", "scaled"), n("Relu", "scaled", "r3"),
    n("MaxPool", "r3", "m", kernel_shape=[2, 2], strides=[2, 2]),
    n("Concat", "m m", "cat", axis=1), n("GlobalAveragePool", "cat", "pooled"), n("Flatten", "pooled", "flat"),
    n("Gemm", "flat w5 b5", transB=1),
]  # fmt: skip
WEIGHTS = {
    "w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 1, 3, 3), "b2": (8,), "w3": (8, 8, 1, 1), "b3": (8,),
    "w4": (8, 8, 1, 1), "b4": (8,), "w5": (30, 16), "b5": (30,),
}  # fmt: skip


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("seed", range(3))
def test_whole_networks_are_equal(runtime: str, seed: int) -> None:
    """Depthwise, residual, squeeze-and-excitation, concatenation: an error anywhere spreads to the output."""
    rng = np.random.default_rng(seed)
    constants: dict[str, Array] = {key: _random(rng, shape) for key, shape in WEIGHTS.items()} | CLIP
    graph = graph_of(BLOCK, {"x": ["n", 3, 12, 12]}, constants)
    samples = [rng.normal(size=(64, 3, 12, 12)).astype(np.float32)]
    network = Network.of(graph, [samples[0][:16]])
    assert all(unit.integer for unit in network.plan.units)
    simulated, deployed = network.simulate(family(runtime), samples), RUNTIMES[runtime](network, samples)
    assert np.array_equal(simulated, deployed)


def test_families_do_differ() -> None:
    # If the two runtimes computed alike, the comparisons above could not tell one family's formula from the other's.
    network, samples = quantized(CASES["average, 2 x 2"], 0)
    first, second = (network.simulate(family(name), samples) for name in RUNTIMES)
    assert 0.01 < (first != second).mean() < 0.2
