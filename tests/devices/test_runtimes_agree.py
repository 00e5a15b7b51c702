"""The deployed integer layer equals its plain NumPy reference, and the float one its own, in each runtime."""

from collections.abc import Iterator

import numpy as np
import pytest

from edgeq.devices import Device, load_profile, open_device, parity
from edgeq.errors import DataError, DeviceError, UsageError

from . import models


@pytest.fixture(scope="module")
def onnxruntime() -> Iterator[Device]:
    with open_device(load_profile("cpu-onnxruntime")) as device:
        yield device


@pytest.fixture(scope="module")
def litert() -> Iterator[Device]:
    with open_device(load_profile("cpu-litert")) as device:
        yield device


def test_onnxruntime_computes_the_integer_layer_bit_for_bit(onnxruntime: Device) -> None:
    handle = onnxruntime.load(models.onnx_integer())
    y = onnxruntime.run(handle, {"x": models.SAMPLES})["y"]
    codes = np.rint(y / models.OUT_SCALE).astype(np.int64) + models.OUT_ZERO
    np.testing.assert_array_equal(codes, models.integer_layer(models.SAMPLES))


@pytest.mark.parametrize("batch", [1, 4])
def test_litert_computes_the_integer_layer_bit_for_bit(litert: Device, batch: int) -> None:
    handle = litert.load(models.tflite_integer(batch))
    assert handle.inputs[0].name == "x"
    assert handle.inputs[0].shape == (batch, 6)
    y = litert.run(handle, {"x": models.SAMPLES}, raw=True)["y"]
    np.testing.assert_array_equal(y, models.integer_layer(models.SAMPLES))


def test_codes_are_taken_as_they_are_and_real_values_come_back(litert: Device) -> None:
    handle = litert.load(models.tflite_integer())
    codes = handle.inputs[0].codes(models.SAMPLES)
    real = litert.run(handle, {"x": codes})["y"]
    expected = (models.integer_layer(models.SAMPLES).astype(np.float32) - models.OUT_ZERO) * models.OUT_SCALE
    np.testing.assert_array_equal(real, expected)


def test_float_layers_equal_numpy(onnxruntime: Device, litert: Device) -> None:
    # Sums of six products in another order: a few units in the last place of float32.
    expected = models.float_layer(models.SAMPLES)
    for device, artifact in ((onnxruntime, models.onnx_float()), (litert, models.tflite_float())):
        y = device.run(device.load(artifact), {"x": models.SAMPLES})["y"]
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_a_fixed_batch_is_filled_up_and_cut_again(onnxruntime: Device) -> None:
    fixed = onnxruntime.run(onnxruntime.load(models.onnx_integer(4)), {"x": models.SAMPLES})["y"]
    free = onnxruntime.run(onnxruntime.load(models.onnx_integer()), {"x": models.SAMPLES})["y"]
    np.testing.assert_array_equal(fixed, free)


def test_many_requests_give_what_one_gives(onnxruntime: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = onnxruntime.load(models.onnx_integer())
    whole = onnxruntime.run(handle, {"x": models.SAMPLES})["y"]
    monkeypatch.setattr("edgeq.devices.samples._REQUEST", 50)
    np.testing.assert_array_equal(onnxruntime.run(handle, {"x": models.SAMPLES})["y"], whole)


def test_kernel_families_of_litert_can_be_chosen(litert: Device) -> None:
    default = litert.load(models.tflite_integer())
    for delegate in ("builtin", "reference"):
        other = litert.load(models.tflite_integer(), delegate=delegate)
        codes = [litert.run(handle, {"x": models.SAMPLES}, raw=True)["y"] for handle in (default, other)]
        assert max(parity(*codes).histogram) <= 1  # the families round ties differently, by one step


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "takes the inputs x, not none"),
        ({"z": models.SAMPLES}, "takes the inputs x, not z"),
        ({"x": models.SAMPLES[:, :5]}, r"takes samples of shape \(\?, 6\), not \(11, 5\)"),
        ({"x": models.SAMPLES.astype(np.int64)}, "takes float32, not int64"),
        ({"x": models.SAMPLES[:0]}, "at least 1"),
    ],
)
def test_wrong_inputs_are_named(onnxruntime: Device, inputs: dict[str, np.ndarray], message: str) -> None:
    handle = onnxruntime.load(models.onnx_float())
    with pytest.raises(DataError, match=message):
        onnxruntime.run(handle, inputs)


def test_an_unknown_option_is_refused(onnxruntime: Device) -> None:
    with pytest.raises(UsageError, match="no option 'thread'"):
        onnxruntime.load(models.onnx_float(), thread=2)


def test_a_file_that_is_no_model_is_one_line(onnxruntime: Device, litert: Device) -> None:
    for device in (onnxruntime, litert):
        with pytest.raises(DeviceError, match=r"while loading bad\.bin") as caught:
            device.load(b"this is no model", name="bad.bin")
        assert "\n" not in str(caught.value)
    # ... and the devices live on
    onnxruntime.load(models.onnx_float())
    litert.load(models.tflite_float())


def test_nan_from_the_device_is_never_a_result(onnxruntime: Device) -> None:
    handle = onnxruntime.load(models.onnx_log(), name="log.onnx")
    samples = np.ones((9, 6), np.float32)
    samples[4:7, 2] = -1
    with pytest.raises(DeviceError, match=r"'y' of log\.onnx is NaN or infinite for 3 of 9 samples, first for .* 4;"):
        onnxruntime.run(handle, {"x": samples})


def test_device_info_names_runtime_cpu_and_nothing_private(onnxruntime: Device) -> None:
    import onnxruntime as ort

    info = onnxruntime.info
    assert (info.runtime, info.version, info.threads) == ("onnxruntime", ort.__version__, 1)
    assert info.memory_bytes > 1 << 28
    assert info.cpu


def test_latency_of_two_artefacts(onnxruntime: Device) -> None:
    handles = [onnxruntime.load(artifact) for artifact in (models.onnx_float(), models.onnx_integer())]
    compared = onnxruntime.compare_latency(*handles, runs=40, processes=2)
    assert 0 < compared.reference.median_ms <= compared.reference.p90_ms
    assert compared.reference.runs == compared.candidate.runs == 40
    assert compared.candidate.start_up_ms > 0
    assert compared.candidate.peak_memory_bytes > 0
    assert compared.ratio.low <= compared.ratio.estimate <= compared.ratio.high
    # and the handles can still be used
    assert onnxruntime.run(handles[0], {"x": models.SAMPLES})["y"].shape == (11, 5)
