"""The integer simulation against ONNX Runtime on emulated ARM64: every code equal, as on x86."""

from collections.abc import Iterator

import numpy as np
import pytest

from edgeq.devices import Device, load_profile, open_device
from edgeq.exporters import onnx as onnx_format
from edgeq.graph.graph import name
from edgeq.simulate.kernels import family

from .test_kernels import CASES, compare, quantized

pytestmark = pytest.mark.slow

#: The largest difference in steps; ONNX Runtime's transposed convolution sums in float32, resizing has 10-bit weights.
BOUNDS = {"transposed conv": 1, "linear resize": 1}


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with open_device(load_profile("arm64-onnxruntime")) as device:
        yield device


@pytest.mark.parametrize("case", CASES)
def test_simulated_codes_are_onnxruntimes_on_arm(device: Device, case: str) -> None:
    for seed in range(2):
        network, samples = quantized(CASES[case], seed)
        handle = device.load(onnx_format.export(network.graph, network.plan, activations="int8"))
        inputs = {name(value): array for value, array in zip(network.graph.inputs, samples, strict=True)}
        deployed = network.codes(device.run(handle, inputs)[name(network.graph.outputs[0])])
        compare(network.simulate(family(device.profile.kernels), samples), deployed, BOUNDS.get(case, 0))


def test_the_families_of_both_processors_do_differ() -> None:
    # The runtimes differ most where ties are common; else equality above would not tell one formula from the other.
    network, samples = quantized(CASES["average, 2 x 2"], 0)
    first, second = (network.simulate(family(name), samples) for name in ("onnxruntime", "onnxruntime-arm"))
    assert 0.01 < np.mean(first != second) < 0.2
