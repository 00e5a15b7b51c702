"""Every TFLite kernel family's formula equals its runtime, bit for bit, on random integers."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from edgeq.devices import Device, list_profiles, load_profile, open_device
from edgeq.devices.profile import KERNELS
from edgeq.plan.plan import Unit
from edgeq.simulate.kernels import FAMILIES, Family, family
from edgeq.simulate.kernels.family import Operands

from . import single_ops

LOCAL = ["cpu-litert", "cpu-litert-builtin", "cpu-litert-reference"]
ELSEWHERE = ["cpu-tflite-runtime", "cpu-tflite-runtime-reference", "tflite-micro", "arm64-litert"]
DEVICES = [*LOCAL, *(pytest.param(name, marks=pytest.mark.slow) for name in ELSEWHERE)]


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    with open_device(load_profile(request.param)) as device:
        yield device


def deployed(device: Device, artifact: bytes, inputs: dict[str, np.ndarray]) -> np.ndarray:
    handle = device.load(artifact)
    return device.run(handle, inputs, raw=True)[handle.outputs[0].name].astype(np.int64)


def simulated(known: Family, op: str, case: single_ops.Elementwise) -> np.ndarray:
    """The kernel's codes for channels-first operands, as a flat array in the file's order."""
    codes = tuple(torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float32)) for x in case.inputs.values())
    unit = Unit("u", op, ("u",), (), ())
    operands = Operands(codes, case.grids, case.output, (-128, 127), unit, lambda x: x)
    return known.kernels[op](operands).numpy().transpose(0, 2, 3, 1).astype(np.int64)


@pytest.mark.parametrize("channels", [16, 5, 11])
@pytest.mark.parametrize("op", ["Conv", "DepthwiseConv", "Gemm"])
def test_requantization_of_sums(device: Device, op: str, channels: int) -> None:
    known = family(device.profile.kernels)
    requantize = known.special.get(op, known.requantize)
    for seed in range(3):
        case = single_ops.weighted(op, seed, channels=channels)
        codes = requantize(
            torch.from_numpy(case.sums),
            torch.tensor(case.input_scale),
            torch.from_numpy(case.weight_scales),
            case.output,
        )
        expected = np.clip(codes.numpy(), -128, 127).astype(np.int64)
        assert len(np.unique(expected)) > 100
        np.testing.assert_array_equal(deployed(device, case.artifact, {"x": case.x}), expected)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
def test_ops_on_two_tensors(device: Device, op: str) -> None:
    for seed in range(3):
        case = single_ops.elementwise(op, seed)
        expected = simulated(family(device.profile.kernels), op, case)
        assert len(np.unique(expected)) > 100
        np.testing.assert_array_equal(deployed(device, case.artifact, case.inputs), expected)


@pytest.mark.parametrize(("size", "channels"), [(5, 512), (7, 40), (8, 24), (12, 300)])
def test_means(device: Device, size: int, channels: int) -> None:
    for seed in range(3):
        case = single_ops.mean(seed, size, channels)
        expected = simulated(family(device.profile.kernels), "GlobalAveragePool", case)
        np.testing.assert_array_equal(deployed(device, case.artifact, case.inputs), expected)


QLINEAR = [("cpu-onnxruntime", True), pytest.param(("arm64-onnxruntime", False), marks=pytest.mark.slow)]


@pytest.mark.parametrize("op", ["Add", "Mul", "GlobalAveragePool"])
@pytest.mark.parametrize("where", QLINEAR)
def test_onnxruntimes_own_ops(where: tuple[str, bool], op: str) -> None:
    name, unsigned = where
    shift = 128 if unsigned else 0
    with open_device(load_profile(name)) as device:
        for seed in range(8):
            case = single_ops.qlinear(op, seed, unsigned)
            y = deployed(device, case.artifact, case.inputs) - shift
            signed = [x.astype(np.int64) - shift for x in case.inputs.values()]
            codes = tuple(torch.from_numpy(x.astype(np.float32)) for x in signed)
            operands = Operands(codes, case.grids, case.output, (-128, 127), Unit("u", op, ("u",), (), ()), lambda x: x)
            expected = family(device.profile.kernels).kernels[op](operands).numpy().astype(np.int64)
            np.testing.assert_array_equal(y, expected, err_msg=f"seed {seed}")


def test_families_really_differ() -> None:
    """Else the tests above would prove little: each pair of families disagrees on some sum, or on some other op."""
    case = single_ops.weighted("Gemm", 0)
    scales = torch.tensor(case.input_scale), torch.from_numpy(case.weight_scales)
    results = {}
    for name in ("xnnpack", "gemmlowp", "ruy"):
        results[name] = family(name).requantize(torch.from_numpy(case.sums), *scales, case.output)
    names = list(results)
    for first, second in zip(names, names[1:] + names[:1], strict=True):
        difference = (results[first] - results[second]).abs()
        assert difference.max() == 1, (first, second)


def test_every_profile_names_a_family_that_can_be_simulated() -> None:
    known = {each.name for each in FAMILIES}
    assert known == set(KERNELS) - {"none"}
    for name in list_profiles():
        assert load_profile(name).kernels in known | {"none"}
