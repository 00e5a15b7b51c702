"""Layer by layer: the copy computes what the file computes, and the first layer that parts is named."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from onnx import helper

from edgeq.devices import Device, load_profile, open_device, parity
from edgeq.devices.hazards import Hazard
from edgeq.devices.layers import cause, compare_layers, first_divergence, opened_onnx, opened_tflite
from edgeq.errors import DeviceError, ModelError
from edgeq.exporters import onnx as onnx_format
from edgeq.exporters import tflite as tflite_format
from edgeq.graph.graph import name
from edgeq.simulate import IntegerSimulation
from edgeq.simulate.kernels import family

from ..simulate.networks import Network, graph_of
from . import models

RNG = np.random.default_rng(11)
X = RNG.normal(size=(6, 8, 12, 10)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> Network:
    """Convolution, convolution, sum of both, mean."""
    weights = {f"w{i}": RNG.normal(size=(8, 8, 3, 3)).astype(np.float32) for i in (1, 2)}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w2"], ["b"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["a", "b"], ["c"], "sum"),
        helper.make_node("GlobalAveragePool", ["c"], ["y"], "mean"),
    ]
    return Network.of(graph_of(nodes, {"x": ["n", 8, 12, 10]}, weights), [X])


@pytest.fixture(scope="module")
def tflite(network: Network) -> bytes:
    return tflite_format.build(network.graph, network.plan, io="int8").data


def run(device: Device, network: Network, artifact: bytes) -> dict[str, np.ndarray]:
    """Codes by value."""
    onnx = device.profile.artifact == "onnx"
    opened = (opened_onnx if onnx else opened_tflite)(artifact)
    handle = device.load(opened.artifact)
    found = device.run(handle, {handle.inputs[0].name: X if onnx else X.transpose(0, 2, 3, 1)}, raw=True)
    return {value: found[output] for value, output in opened.values.items()}


def simulated(network: Network, kernels: str) -> dict[str, np.ndarray]:
    simulation = IntegerSimulation(network.graph, network.plan, family(kernels))
    codes, _ = simulation.run((torch.from_numpy(X),), keep=lambda value: True)
    return {value: tensor.numpy() for value, tensor in codes.items()}


@pytest.fixture(params=["cpu-onnxruntime", "cpu-litert", "cpu-litert-reference", "cpu-litert-builtin"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    with open_device(load_profile(request.param)) as device:
        yield device


def test_every_layer_equals_its_simulation(network: Network, tflite: bytes, device: Device) -> None:
    artifact = tflite if device.profile.artifact == "tflite" else onnx_format.export(network.graph, network.plan)
    layers = compare_layers(simulated(network, device.profile.kernels), run(device, network, artifact))
    assert {layer.value for layer in layers} >= {"a", "b", "c", "y"}
    assert first_divergence(layers) is None


def test_the_copy_computes_what_the_file_computes(network: Network, tflite: bytes) -> None:
    with open_device(load_profile("cpu-litert")) as device:
        handle = device.load(tflite)
        (output,) = device.run(handle, {handle.inputs[0].name: X.transpose(0, 2, 3, 1)}, raw=True).values()
        copied = run(device, network, tflite)[name(network.graph.outputs[0])]
    assert parity(output, copied).unequal == 0


def test_the_first_layer_where_two_kernels_part_is_named(network: Network, tflite: bytes) -> None:
    found = {}
    for profile in ("cpu-litert", "cpu-litert-reference"):
        with open_device(load_profile(profile)) as device:
            found[profile] = run(device, network, tflite)
    layers = compare_layers(found["cpu-litert"], found["cpu-litert-reference"])
    first = first_divergence(layers)
    assert first is not None
    # Whichever layer it is, those before it are equal, and it is a matter of rounding.
    before = layers[: layers.index(first)]
    assert all(layer.parity.unequal == 0 for layer in before)
    assert cause(first).startswith(("rounding", "requantization"))


def test_a_damaged_weight_is_blamed_on_its_layer(network: Network) -> None:
    honest = simulated(network, "xnnpack")
    damaged = dict(honest)
    damaged["b"] = honest["b"] + 5
    damaged["c"] = honest["c"] - 1
    first = first_divergence(compare_layers(honest, damaged))
    assert first is not None
    assert first.value == "b"
    assert cause(first) == "kernel difference: up to 5 steps in 100.0% of the codes"
    hazard = Hazard("saturation", "second", 0.5, "second: half of its pairs can saturate")
    assert cause(first, (hazard,)).startswith("saturation: up to 5 steps")


def test_causes_by_share() -> None:
    codes = np.zeros(1000, np.int8)
    other = codes.copy()
    other[:5] = 1
    (few,) = compare_layers({"v": codes}, {"v": other})
    assert cause(few) == "rounding: 0.50% of the codes differ by one step, as ties do between kernels"
    (many,) = compare_layers({"v": codes}, {"v": codes + 1})
    assert cause(many).startswith("requantization: 100.0%")


def test_nothing_to_compare_is_an_error(network: Network) -> None:
    with pytest.raises(DeviceError, match="no value in common"):
        compare_layers({"a": np.zeros(1)}, {"b": np.zeros(1)})
    with pytest.raises(ModelError, match="no QuantizeLinear"):
        opened_onnx(models.onnx_float())
    with pytest.raises(ModelError, match="no int8 tensor"):
        opened_tflite(models.tflite_float())
