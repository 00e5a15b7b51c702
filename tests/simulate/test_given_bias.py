"""A product without a bias that a rounding method gave one: both files hold it, and run as simulated."""

from dataclasses import replace

import numpy as np
import pytest

from edgeq.exporters import onnx as onnx_format
from edgeq.graph.execute import shapes, to_torch
from edgeq.plan.validate import validate
from edgeq.simulate.kernels import family

from .networks import Array, Network, graph_of
from .test_kernels import n

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 5, 24)).astype(np.float32)
WEIGHTS = {key: RNG.normal(size=shape).astype(np.float32) for key, shape in {"m": (24, 16), "v": (16, 7)}.items()}


def with_bias(shape_known: bool) -> tuple[Network, Network]:
    """Two products of sequences: as they are, and with the bias that a method might give the second."""
    graph = graph_of([n("MatMul", "x m", "h"), n("MatMul", "h v")], {"x": ["n", 5, 24]}, WEIGHTS)
    plain = Network.of(graph, [X])
    if not shape_known:
        plain.graph.value("h").shape = None  # as after an op whose result shape nothing infers
    unit = next(unit for unit in plain.plan.units if unit.outputs == ("y",))
    bias = plain.plan.biases[unit.name]
    given = replace(bias, codes=np.arange(-900, 1200, 300, np.int32).astype(bias.codes.dtype))
    plan = replace(plain.plan, biases={**plain.plan.biases, unit.name: given})
    validate(graph, plan)
    return plain, Network(plain.graph, plan)


def steps(found: Array, expected: Array) -> float:
    return float(np.abs(found - expected).max())


@pytest.mark.parametrize("shape_known", [True, False])
def test_both_runtimes_add_it_in_the_accumulator(shape_known: bool) -> None:
    plain, biased = with_bias(shape_known)
    for kernels, run in (("onnxruntime", biased.onnxruntime), ("xnnpack", biased.litert)):
        simulated = biased.simulate(family(kernels), [X])
        # Where ONNX Runtime must add it after the product, both round, which may differ by a step.
        bound = 1 if kernels == "onnxruntime" and not shape_known else 0
        assert steps(run([X]), simulated) <= bound, kernels
        assert steps(simulated, plain.simulate(family(kernels), [X])) > 2


@pytest.mark.parametrize("shape_known", [True, False])
def test_the_audit_finds_it(shape_known: bool) -> None:
    _, biased = with_bias(shape_known)
    sizes = shapes(biased.graph, to_torch(biased.graph))
    data = onnx_format.export(biased.graph, biased.plan)
    assert onnx_format.audit(data, biased.graph, biased.plan, sizes).problems == ()
    other = onnx_format.export(biased.graph, replace(biased.plan, biases=with_bias(True)[0].plan.biases))
    (problem,) = onnx_format.audit(other, biased.graph, biased.plan, sizes).problems
    assert "bias" in problem
