"""Saturation and overflow, found in the file, and reproduced on an emulated CPU without VNNI."""

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeq.devices import load_profile
from edgeq.devices.device import Device
from edgeq.devices.hazards import Hazard, hazards, summary
from edgeq.devices.transports import Emulated
from edgeq.errors import ModelError

SCALE = np.float32(0.01)


def layer(weight: np.ndarray, *, bias: int = 0, group: int = 1, activation: type = np.uint8) -> bytes:
    """A QDQ layer: Gemm with a weight (outputs, inputs), or Conv with a weight (outputs, inputs, height, width)."""
    conv = weight.ndim == 4
    inputs = weight.shape[1] * group
    zero = activation(128 if activation is np.uint8 else 0)
    op = helper.make_node("Conv", ["xd", "wd", "bd"], ["yf"], "layer", group=group, pads=[1, 1, 1, 1])
    if not conv:
        op = helper.make_node("Gemm", ["xd", "wd", "bd"], ["yf"], "layer", transB=1)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "s", "zw"], ["wd"]),
        helper.make_node("DequantizeLinear", ["b", "sb", "zb"], ["bd"]),
        op,
        helper.make_node("QuantizeLinear", ["yf", "sy", "zy"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "sy", "zy"], ["y"]),
    ]
    constants = {
        "s": SCALE, "z": zero, "w": weight.astype(np.int8), "zw": np.int8(0), "sb": SCALE * SCALE, "zb": np.int32(0),
        "b": np.full(len(weight), bias, np.int32), "sy": np.float32(SCALE * 8), "zy": zero,
    }  # fmt: skip
    shape: list[str | int] = ["n", inputs, 5, 5] if conv else ["n", inputs]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", len(weight), *shape[2:]])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def test_a_pair_that_fits_and_one_that_does_not() -> None:
    assert hazards(layer(np.array([[64, 64, -100, 127]]))) == ()
    found = hazards(layer(np.array([[65, 64, 127, -127], [1, 1, -70, -70]])))
    assert [(h.kind, h.node, h.share) for h in found] == [("saturation", "layer", 0.5)]
    assert "can saturate on x86 CPUs without VNNI; use 7-bit weights" in found[0].message


def vpmaddubsw(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The instruction: products of unsigned and signed bytes, neighbours added in 16 bits with saturation."""
    products = x.astype(np.int64) * w.astype(np.int64)
    return np.clip(products[..., 0::2] + products[..., 1::2], -(2**15), 2**15 - 1)


def test_what_is_found_is_what_the_instruction_saturates() -> None:
    pairs = np.stack(np.meshgrid(np.arange(-128, 128), np.arange(-128, 128), indexing="ij"), -1).reshape(-1, 2)
    extremes = np.array([[255, 255], [255, 0], [0, 255]])
    exact = (extremes[:, None] * pairs[None]).sum(-1)
    saturates = (vpmaddubsw(extremes[:, None], pairs[None])[..., 0] != exact).any(0)
    for chosen in (saturates, ~saturates):
        some = pairs[chosen][np.random.default_rng(0).permutation(int(chosen.sum()))[:64]]
        found = {tuple(pair): hazards(layer(pair[None])) for pair in some}
        assert all(bool(hazard) == bool(chosen is saturates) for hazard in found.values())
    share = hazards(layer(pairs.reshape(256, -1)))[0].share
    assert share == pytest.approx(float(saturates.mean()))


def test_pairs_of_a_convolution_are_neighbouring_channels() -> None:
    weight = np.zeros((1, 2, 1, 2), int)
    weight[0, 0] = 127  # the same channel at neighbouring positions
    assert hazards(layer(weight)) == ()
    weight[0, 1, 0, 0] = 127  # the next channel at the same position
    assert [h.share for h in hazards(layer(weight))] == [0.5]


def test_a_depthwise_convolution_cannot_saturate() -> None:
    assert hazards(layer(np.full((4, 1, 3, 3), 127), group=4)) == ()


def test_an_overflow_of_the_sum_is_found() -> None:
    found = hazards(layer(np.array([[64, 64]]), bias=2**31 - 100))
    assert [h.kind for h in found] == ["overflow"]
    assert "can reach 2,147,499,932, over 2,147,483,647" in found[0].message
    assert hazards(layer(np.array([[64, 64]]), bias=2**31 - 1 - 128 * 128)) == ()


def test_a_summary_names_the_worst_of_each_kind() -> None:
    found = (Hazard("saturation", "a", 0.1, "a: 10%"), Hazard("saturation", "b", 0.2, "b: 20%"))
    assert summary(found) == ("saturation: b: 20% (1 more layers have the same problem)",)
    assert summary(()) == ()


def test_a_float_model_has_no_hazards_and_garbage_is_an_error() -> None:
    from . import models

    assert hazards(models.onnx_float()) == ()
    with pytest.raises(ModelError, match="cannot read the ONNX file"):
        hazards(b"garbage")


CASES = {
    "gemm": np.random.default_rng(0).integers(90, 128, (8, 64)),
    "conv": np.random.default_rng(1).integers(90, 128, (8, 16, 3, 3)),
    "depthwise": np.random.default_rng(2).integers(90, 128, (16, 1, 3, 3)),
}


@pytest.fixture(scope="module")
def processors() -> Iterator[dict[str, Device]]:
    profile = load_profile("x86-64-avx2-onnxruntime")
    with ExitStack() as stack:
        yield {cpu: stack.enter_context(Device(profile, Emulated("x86_64", cpu))) for cpu in ("Denverton", "Haswell")}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("activation", [np.uint8, np.int8])
def test_what_is_found_is_what_an_emulated_cpu_without_vnni_does(
    processors: dict[str, Device], case: str, activation: type
) -> None:
    weight = CASES[case]
    group = 16 if case == "depthwise" else 1
    shape = (4, 64) if case == "gemm" else (4, 16, 5, 5)
    # Large inputs, of which half are at the top of the range, and sums that the output can hold.
    x = np.random.default_rng(3).choice([1.27, 1.0, -1.28, 0.3], shape, p=[0.25, 0.25, 0.25, 0.25]).astype(np.float32)
    profile = processors["Haswell"].profile
    signed = layer(weight * np.where(np.arange(weight[0].size).reshape(weight[0].shape) % 4 < 2, 1, -1), group=group,
                   activation=activation)  # fmt: skip
    small = layer(weight // 2, group=group, activation=activation)

    def outputs(cpu: str, artifact: bytes, config: dict[str, str]) -> np.ndarray:
        device = processors[cpu]
        return device.run(device.load(artifact, config=config), {"x": x})["y"]

    exact = outputs("Denverton", signed, {})
    saturates = not np.array_equal(outputs("Haswell", signed, {}), exact)
    assert saturates == bool(hazards(signed))
    # The profile for such a CPU asks for the exact kernel; so do weights of seven bits.
    np.testing.assert_array_equal(outputs("Haswell", signed, dict(profile.config)), exact)
    assert hazards(small) == ()
    np.testing.assert_array_equal(outputs("Haswell", small, {}), outputs("Denverton", small, {}))
