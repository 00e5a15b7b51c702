"""What device profiles can demand of every scale and zero point, kept by every method and in both files."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from ai_edge_litert import interpreter as litert
from onnx import numpy_helper

from edgeq.calibration.methods import METHODS, Method, method
from edgeq.calibration.ranges import observe
from edgeq.devices import Profile, load_profile
from edgeq.devices.profile import profile_from_table
from edgeq.errors import PlanError, UsageError
from edgeq.exporters import onnx as onnx_format
from edgeq.exporters import tflite as tflite_format
from edgeq.exporters.tflite import read
from edgeq.graph.execute import to_torch
from edgeq.pipeline.inputs import check_devices, request
from edgeq.pipeline.options import Options
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan
from edgeq.plan.rules import decide
from edgeq.plan.validate import validate
from edgeq.simulate import IntegerSimulation
from edgeq.simulate.kernels import family

from .networks import convolutions, images

GRAPH = convolutions()
SAMPLES = [(part,) for part in torch.from_numpy(images(64)).split(32)]
X = images(16, seed=5)


def profile(**formats: object) -> Profile:
    table = {"name": "board", "runtime": {"name": "litert", "version": ">=2"}, "formats": formats}
    return profile_from_table(table, "board.toml")


def options(bits: str = "w8a8", **given: object) -> Options:
    return Options("m.onnx", "d.npz", Path("o"), bits=Bits.parse(bits), **given)  # type: ignore[arg-type]


def planned(made: Method, bits: str = "w8a8", **formats: object) -> Plan:
    skeleton = decide(GRAPH, request(options(bits), (profile(**formats), load_profile("cpu-onnxruntime"))))
    plan = made(GRAPH, skeleton, observe(to_torch(GRAPH), SAMPLES, skeleton), SAMPLES)
    validate(GRAPH, plan)
    return plan


def powers(scales: np.ndarray) -> bool:
    return bool((np.frexp(scales)[0] == 0.5).all())


@pytest.mark.parametrize("each", METHODS, ids=lambda m: m.name)
def test_every_method_keeps_to_powers_of_two(each: Method) -> None:
    plan = planned(each, "w4a8", scales="power-of-two")
    grids = [*plan.activations.values(), *(constant.quantization for constant in plan.weights.values())]
    assert all(powers(grid.scale) for grid in grids)
    assert all(powers(bias.quantization.scale) for bias in plan.biases.values())


def test_every_scale_in_both_files_is_a_power_of_two_and_the_simulation_is_exact() -> None:
    plan = planned(method("gptq"), "w8a8", scales="power-of-two")
    file = onnx_format.export(GRAPH, plan)
    stored = {tensor.name: tensor for tensor in onnx.load_model_from_string(file).graph.initializer}
    scales = [numpy_helper.to_array(tensor) for key, tensor in stored.items() if key.endswith("_scale")]
    assert len(scales) > 8
    assert all(powers(scale) for scale in scales)
    written = tflite_format.build(GRAPH, plan, io="float32")
    tensors = [tensor for tensor in read(written.data).tensors if tensor.scale.size]
    assert len(tensors) > 8
    assert all(powers(tensor.scale) for tensor in tensors)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    runner = litert.Interpreter(model_content=written.data).get_signature_runner()
    found = {
        "onnxruntime": session.run(None, {"x": X})[0],
        "xnnpack": np.concatenate([runner(x=row[None].transpose(0, 2, 3, 1))["y"] for row in X]),
    }
    for kernels, outputs in found.items():
        with torch.no_grad():
            simulated = IntegerSimulation(GRAPH, plan, family(kernels))(torch.from_numpy(X))
        expected = simulated[0] if isinstance(simulated, tuple) else simulated
        np.testing.assert_array_equal(outputs, expected.numpy())


def test_powers_of_two_cover_what_was_seen_and_cost_less_than_a_bit() -> None:
    plain, powered = planned(METHODS[0]), planned(METHODS[0], scales="power-of-two")
    for value, grid in powered.activations.items():
        ratio = float(grid.scale) / float(plain.activations[value].scale)
        assert 1 - 1e-5 <= ratio < 2


def test_one_scale_for_a_weight() -> None:
    plan = planned(method("gptq"), granularity="per-tensor")
    assert all(constant.quantization.scale.shape == () for constant in plan.weights.values())


def test_no_zero_points() -> None:
    plan = planned(method("gptq"), zero_points="zero")
    assert all((grid.zero_point == 0).all() for grid in plan.activations.values())
    tensors = read(tflite_format.build(GRAPH, plan).data).tensors
    assert all((tensor.zero_point == 0).all() for tensor in tensors)


def test_codes_that_are_all_unsigned_or_all_signed() -> None:
    plan = planned(METHODS[0])
    for kind in ("uint8", "int8"):
        model = onnx.load_model_from_string(onnx_format.export(GRAPH, plan, activations=kind))  # type: ignore[arg-type]
        made = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
        types = {numpy_helper.to_array(t).dtype.name for t in model.graph.initializer if t.name in made}
        assert types == {kind}


def test_no_16_bits_is_said_before_any_work() -> None:
    board = profile(bits=["w8a8"])
    skeleton = decide(GRAPH, request(options("w8a16"), (board,)))
    with pytest.raises(PlanError, match="board does not run w8a16; it runs w8a8"):
        check_devices(skeleton, (board,))


def test_recovery_that_would_learn_scales_is_refused() -> None:
    with pytest.raises(UsageError, match="recovery learns scales, and here they are powers of two"):
        request(options(recover_budget="10steps"), (profile(scales="power-of-two"),))
    with pytest.raises(UsageError, match="scales, and here they are of blocks in half precision"):
        request(options("w4b32", recover_budget="10steps"), (profile(),))


@pytest.mark.parametrize(("key", "value"), [("scales", "shift"), ("zero_points", "none")])
def test_a_misspelt_rule_is_an_error(key: str, value: str) -> None:
    with pytest.raises(UsageError, match="is unknown"):
        profile(**{key: value})
