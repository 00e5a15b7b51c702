"""A large weight is brought into floating point anew for each batch, in parts: the codes stay the runtime's."""

import numpy as np
import pytest
from onnx import helper

from edgeq.simulate import accumulator
from edgeq.simulate.kernels import family

from .networks import Network, graph_of


@pytest.mark.parametrize("inputs", [40, 3000], ids=["one product", "two halves"])
def test_codes_are_the_same(inputs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(inputs, 64)).astype(np.float32)
    weight[0] = -np.abs(weight).max(0)  # the lowest code of every channel
    graph = graph_of([helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], {"x": ["n", inputs]}, {"w": weight})
    x = rng.normal(size=(200, inputs)).astype(np.float32)
    network = Network.of(graph, [x])
    kept = network.simulate(family("onnxruntime"), [x])
    np.testing.assert_array_equal(kept, network.onnxruntime([x]))
    monkeypatch.setattr(accumulator, "_LARGE", 0)
    np.testing.assert_array_equal(network.simulate(family("onnxruntime"), [x]), kept)
    np.testing.assert_array_equal(network.simulate(family("onnxruntime"), [x]), kept)  # and for the next batch
