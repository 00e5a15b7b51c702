"""Probing writes profiles that are read back as they were and fit the device."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.devices import Profile, TransportOptions, list_profiles, load_profile, open_device
from edgeq.devices.probe import _fitted, probe, to_toml
from edgeq.errors import DeviceError
from edgeq.measurement import DeviceInfo

from .conftest import SshServer


@pytest.mark.parametrize("name", list_profiles())
def test_a_profile_written_is_read_back_as_it_was(name: str, tmp_path: Path) -> None:
    profile = load_profile(name)
    file = tmp_path / "copy.toml"
    file.write_text(to_toml(profile))
    assert load_profile(file) == profile


def test_odd_texts_survive(tmp_path: Path) -> None:
    profile = replace(load_profile("cpu-litert"), description='a "quoted" \\ name\nover lines', config={"a.b": "1"})
    profile = replace(profile, scales="power-of-two", zero_points="zero")
    file = tmp_path / "copy.toml"
    file.write_text(to_toml(profile))
    assert load_profile(file) == profile


def test_this_machine() -> None:
    import onnxruntime

    found, refused = probe("here", TransportOptions(), ("onnxruntime", "litert", "tflite-runtime"))
    by_runtime = {probed.profile.runtime: probed for probed in found}
    assert set(by_runtime) >= {"onnxruntime", "litert"}
    assert by_runtime["onnxruntime"].info.version == onnxruntime.__version__
    assert len(found) + len(refused) == 3
    with open_device(by_runtime["litert"].profile) as device:
        assert device.info.profile == "here-litert"


def test_over_ssh(ssh_server: SshServer, tmp_path: Path) -> None:
    ssh = ssh_server.transport()
    options = TransportOptions("ssh", host=ssh.host, port=ssh.port, options=ssh.options, python=sys.executable,
                               store=str(tmp_path / "store"))  # fmt: skip
    (probed,), _ = probe("board", options, ("litert",))
    file = tmp_path / "board.toml"
    file.write_text(to_toml(probed.profile))
    with open_device(load_profile(file)) as device:
        assert device.info.runtime == "litert"


def test_no_runtime_is_an_error() -> None:
    with pytest.raises(DeviceError, match="no runtime answered on here: here-litert: cannot start /no/python"):
        probe("here", TransportOptions(python="/no/python"), ("litert",))


def info(machine: str, *features: str) -> DeviceInfo:
    return DeviceInfo("p", "onnxruntime", "1.31.1", machine, "CPU", features, 1, 1)


@pytest.mark.parametrize(
    ("device", "activations", "exact"),
    [
        (info("x86_64", "avx2", "avx512_vnni"), "uint8", False),
        (info("x86_64", "avx2"), "uint8", True),
        (info("aarch64", "asimd"), "int8", False),
    ],
)
def test_what_follows_from_the_cpu(device: DeviceInfo, activations: str, exact: bool) -> None:
    profile: Profile = _fitted(load_profile("cpu-onnxruntime"), device)
    assert (profile.activations, profile.version, profile.machine) == (activations, ">=1.31,<2", device.machine)
    assert ("session.x64quantprecision" in profile.config) == exact
    assert profile.kernels == ("onnxruntime-arm" if device.machine == "aarch64" else "onnxruntime")
