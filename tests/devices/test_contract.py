"""Every runtime over every transport keeps the same promises."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from edgeq.devices import Device, Profile, TransportOptions, load_profile, open_device
from edgeq.devices.transports import Adb, make_transport
from edgeq.errors import DeviceError

from . import models
from .conftest import SshServer

NULL = Profile("null", "", "null", ">=1", transport=TransportOptions(timeout_s=30))

#: (profile, transport): the transport of the profile itself where it is None.
FAST = [
    *[("null", transport) for transport in ("local", "ssh", "adb")],
    *[(name, transport) for name in ("cpu-onnxruntime", "cpu-litert") for transport in ("local", "ssh")],
    ("cpu-litert", "adb"),
    ("cpu-litert-builtin", "local"),
    ("cpu-litert-reference", "local"),
    ("cpu-onnxruntime-unoptimized", "local"),
]
SLOW = [
    (name, "own")
    for name in (
        "cpu-tflite-runtime",
        "cpu-tflite-runtime-reference",
        "tflite-micro",
        "arm64-litert",
        "arm64-onnxruntime",
        "x86-64-avx2-onnxruntime",
    )
]
CASES = [pytest.param(case, id="-over-".join(case)) for case in FAST]
CASES += [pytest.param(case, id="-over-".join(case), marks=pytest.mark.slow) for case in SLOW]


@pytest.fixture(scope="module", params=CASES)
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    name, transport = request.param
    profile = NULL if name == "null" else load_profile(name)
    if transport == "ssh":
        server: SshServer = request.getfixturevalue("ssh_server")
        opened = Device(profile, server.transport())
    elif transport == "adb":
        serial = request.getfixturevalue("adb_stand_in")
        store = str(request.getfixturevalue("tmp_path_factory").mktemp("phone"))
        opened = Device(profile, Adb(serial, sys.executable, store))
    else:
        opened = open_device(profile)
    with opened as device:
        yield device


def integer(device: Device) -> bytes:
    return _pick(device, models.onnx_integer, models.tflite_integer)


def _pick(device: Device, onnx: Callable[[], bytes], tflite: Callable[[], bytes]) -> bytes:
    return {"onnx": onnx, "tflite": tflite, "null": models.null_model}[device.profile.artifact]()


def run(device: Device, samples: np.ndarray) -> np.ndarray:
    """The output's codes; TFLite Micro has no names for its tensors."""
    handle = device.load(integer(device))
    y = device.run(handle, {handle.inputs[0].name: samples})[handle.outputs[0].name]
    return y if device.profile.runtime == "null" else np.rint(y / models.OUT_SCALE).astype(int) + models.OUT_ZERO


def test_it_computes_the_layer(device: Device) -> None:
    expected = models.SAMPLES if device.profile.runtime == "null" else models.integer_layer(models.SAMPLES)
    # These samples hold no ties, which the families of kernels would round differently.
    np.testing.assert_array_equal(run(device, models.SAMPLES), expected)


def test_samples_do_not_depend_on_their_neighbours(device: Device) -> None:
    whole = run(device, models.SAMPLES)
    np.testing.assert_array_equal(run(device, models.SAMPLES[3:4]), whole[3:4])


def test_it_says_what_it_is(device: Device) -> None:
    info = device.info
    assert info.profile == device.profile.name
    assert info.version
    assert info.machine in ("x86_64", "aarch64")
    if device.profile.machine:
        assert info.machine == device.profile.machine


def test_a_file_that_is_no_model_is_one_line_and_the_device_lives_on(device: Device) -> None:
    with pytest.raises(DeviceError, match=r"while loading bad") as caught:
        device.load(b"no model at all, of no format whatsoever", name="bad")
    assert "\n" not in str(caught.value)
    assert run(device, models.SAMPLES).shape[0] == len(models.SAMPLES)


def test_two_artefacts_are_timed_in_turn(device: Device) -> None:
    first, second = device.load(integer(device)), device.load(integer(device))
    compared = device.compare_latency(first, second, runs=4, processes=1, warm_up=1)
    assert compared.reference.runs == 4
    assert compared.reference.median_ms > 0
    assert compared.ratio.low <= compared.ratio.high


def test_another_version_of_the_runtime_is_refused(device: Device) -> None:
    profile = replace(device.profile, version=">=99")
    with pytest.raises(DeviceError, match="but the profile is for >=99"):
        Device(profile, device._transport).__enter__()


def test_the_transport_of_a_shipped_profile_can_be_made(device: Device) -> None:
    assert make_transport(device.profile).command(device.profile.runtime)
