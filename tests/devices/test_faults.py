"""Everything a device can do wrong ends in one clear line and exit code 4, and the device can be used again."""

import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeq.devices import Device, Profile, TransportOptions
from edgeq.devices.transports import Local
from edgeq.errors import DeviceError, ExitCode

from . import models

AGENT = Path(__file__).with_name("faulty_agent.py")
PROFILE = Profile("null", "", "null", ">=1", transport=TransportOptions(timeout_s=30))
X = {"x": models.SAMPLES}


@pytest.fixture
def device() -> Iterator[Device]:
    with Device(PROFILE, Local(agent=AGENT)) as device:
        yield device


def faulty(when: str, what: str) -> bytes:
    return models.null_model(fault=[when, what])


def fails(device: Device, artifact: bytes, message: str) -> None:
    """Loading and running fails with that message, in one line; afterwards a good model runs."""
    with pytest.raises(DeviceError, match=message) as caught:
        device.run(device.load(artifact, name="bad"), X)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == ExitCode.DEVICE == 4
    np.testing.assert_array_equal(device.run(device.load(models.null_model()), X)["y"], models.SAMPLES)


def test_segfault_while_loading(device: Device) -> None:
    fails(device, faulty("load", "segfault"), r"null: the runtime crashed with SIGSEGV while loading bad \(kernel: ")


def test_segfault_while_running(device: Device) -> None:
    fails(device, faulty("run", "segfault"), r"crashed with SIGSEGV while running bad \(kernel: reading address zero\)")


def test_killed(device: Device) -> None:
    fails(device, faulty("run", "killed"), r"was killed \(SIGKILL; .*memory runs out\) while running bad")


def test_ends_by_itself(device: Device) -> None:
    fails(device, faulty("run", "exit"), r"ended with exit code 7 while running bad \(I have had enough\)")


def test_nan(device: Device) -> None:
    fails(device, faulty("run", "nan"), r"'y' of bad is NaN or infinite for 11 of 11 samples")


def test_garbage_between_the_frames(device: Device) -> None:
    fails(device, faulty("run", "garbage"), r"unreadable answer while running bad: not a frame")


def test_what_the_runtime_prints_is_not_an_answer(device: Device) -> None:
    handle = device.load(faulty("run", "print"))
    np.testing.assert_array_equal(device.run(handle, X)["y"], models.SAMPLES)


@pytest.mark.parametrize("when", ["load", "run"])
def test_hang(when: str) -> None:
    profile = replace(PROFILE, transport=TransportOptions(timeout_s=1.0))
    with Device(profile, Local(agent=AGENT)) as device:
        start = time.monotonic()
        fails(device, faulty(when, "hang"), r"no answer in 1 s while .*ing bad, so it was stopped; .*timeout_s")
        assert time.monotonic() - start < 10


def test_out_of_memory() -> None:
    limited = Local(agent=AGENT, memory_limit=3 << 28)
    with Device(PROFILE, limited) as device:
        fails(device, faulty("run", "memory"), r"null: out of memory \(while running bad\)")


def test_the_agent_is_killed_between_calls(device: Device) -> None:
    handle = device.load(models.null_model())
    assert device._process is not None
    os.kill(device._process._process.pid, signal.SIGKILL)
    device._process._process.wait()
    # The artefact is sent and loaded again.
    np.testing.assert_array_equal(device.run(handle, X)["y"], models.SAMPLES)


def test_the_agent_is_killed_in_the_middle_of_a_call(device: Device) -> None:
    handle = device.load(faulty("run", "hang"), name="slow")
    assert device._process is not None
    timer = threading.Timer(0.3, os.kill, (device._process._process.pid, signal.SIGTERM))
    timer.start()
    with pytest.raises(DeviceError, match="crashed with SIGTERM while running slow"):
        device.run(handle, X)


def test_disk_full_on_the_device(tmp_path: Path) -> None:
    artifact = models.null_model()
    # Whatever is written to /dev/full fails with "No space left on device", as on a real full disk.
    (tmp_path / f"{hashlib.sha256(artifact).hexdigest()}.part").symlink_to("/dev/full")
    with Device(PROFILE, Local(agent=AGENT, store=tmp_path)) as device:
        with pytest.raises(DeviceError, match=r"null: No space left on device \(while sending big\)"):
            device.load(artifact, name="big")
        other = models.null_model(other=1)
        np.testing.assert_array_equal(device.run(device.load(other), X)["y"], models.SAMPLES)


def test_wrong_runtime_version() -> None:
    profile = replace(PROFILE, version=">=2,<3")
    with pytest.raises(DeviceError, match=r"null: the device has null 1.0, but the profile is for >=2,<3; install"):
        Device(profile, Local(agent=AGENT)).__enter__()


def test_runtime_not_installed() -> None:
    profile = replace(PROFILE, runtime="tflite-runtime")
    with pytest.raises(DeviceError, match="No module named 'tflite_runtime'"):
        Device(profile, Local()).__enter__()


def test_no_such_python() -> None:
    with pytest.raises(DeviceError, match="cannot start /no/python: No such file"):
        Device(PROFILE, Local(("/no/python",))).__enter__()


def test_a_python_that_says_something_else() -> None:
    with pytest.raises(DeviceError, match="unreadable answer while starting"):
        Device(PROFILE, Local(("/bin/echo", "hello, I am not an agent"))).__enter__()


def test_a_damaged_artefact_is_sent_again(tmp_path: Path) -> None:
    artifact = models.null_model()
    part = tmp_path / f"{hashlib.sha256(artifact).hexdigest()}.part"
    part.write_bytes(b"x" * 5)
    with Device(PROFILE, Local(agent=AGENT, store=tmp_path)) as device:
        with pytest.raises(DeviceError, match="arrived damaged"):
            device.load(artifact)
        np.testing.assert_array_equal(device.run(device.load(artifact), X)["y"], models.SAMPLES)


def test_a_transfer_goes_on_where_it_stopped(tmp_path: Path) -> None:
    artifact = models.null_model()
    part = tmp_path / f"{hashlib.sha256(artifact).hexdigest()}.part"
    part.write_bytes(artifact[:50])
    with Device(PROFILE, Local(agent=AGENT, store=tmp_path)) as device:
        np.testing.assert_array_equal(device.run(device.load(artifact), X)["y"], models.SAMPLES)
    assert not part.exists()
