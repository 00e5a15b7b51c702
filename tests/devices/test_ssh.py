"""ssh: host keys are checked, nothing secret is on the command line, a broken connection is made anew."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.devices import Device, Profile, TransportOptions
from edgeq.devices.process import AgentProcess
from edgeq.errors import DeviceError

from . import models
from .conftest import SshServer

PROFILE = Profile("board", "", "null", ">=1", transport=TransportOptions(timeout_s=30, retries=2))


def interrupt(monkeypatch: pytest.MonkeyPatch, command: str, number: int, fault: Callable[[], None]) -> list[int]:
    """Do something to the connection just before the n-th request of a kind; returns the count of all of that kind."""
    original, count = AgentProcess.request, [0]

    def request(self: AgentProcess, header: dict[str, Any], *rest: Any, **more: Any) -> Any:
        if header["command"] == command:
            count[0] += 1
            if count[0] == number:
                fault()
        return original(self, header, *rest, **more)

    monkeypatch.setattr(AgentProcess, "request", request)
    return count


def test_a_connection_that_drops_in_the_middle_comes_back(
    ssh_server: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeq.devices.samples._REQUEST", 24)
    count = interrupt(monkeypatch, "run", 4, ssh_server.drop_connections)
    with Device(PROFILE, ssh_server.transport()) as device:
        handle = device.load(models.null_model())
        np.testing.assert_array_equal(device.run(handle, {"x": models.SAMPLES})["y"], models.SAMPLES)
    assert count[0] == len(models.SAMPLES) + 1


def test_a_transfer_that_breaks_goes_on_where_it_stopped(
    ssh_server: SshServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("edgeq.devices.device._CHUNK", 20)
    artifact = models.null_model(padding="x" * 200)
    count = interrupt(monkeypatch, "chunk", 5, ssh_server.drop_connections)
    with Device(PROFILE, ssh_server.transport(store=str(tmp_path / "store"))) as device:
        handle = device.load(artifact)
        np.testing.assert_array_equal(device.run(handle, {"x": models.SAMPLES})["y"], models.SAMPLES)
    # The four chunks that had arrived are not sent again; the fifth had not.
    assert count[0] == -(-len(artifact) // 20) + 1


def test_a_connection_that_stays_away_is_an_error(ssh_server: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.devices.device._PAUSE_S", 0.01)

    def away() -> None:
        # Connections are children of the listener; found before it goes.
        ssh_server.drop_connections()
        ssh_server.stop()

    interrupt(monkeypatch, "run", 1, away)
    with Device(PROFILE, ssh_server.transport()) as device:
        handle = device.load(models.null_model())
        try:
            with pytest.raises(DeviceError, match=r"board: cannot connect \(.*refused") as caught:
                device.run(handle, {"x": models.SAMPLES})
        finally:
            ssh_server.start()
        assert caught.value.exit_code == 4
        np.testing.assert_array_equal(device.run(handle, {"x": models.SAMPLES})["y"], models.SAMPLES)


def test_an_unknown_host_key_is_refused(ssh_server: SshServer, tmp_path: Path) -> None:
    transport = ssh_server.transport()
    nobody = tmp_path / "known_hosts"
    nobody.write_text("")
    options = tuple(f"UserKnownHostsFile={nobody}" if o.startswith("UserKnown") else o for o in transport.options)
    profile = replace(PROFILE, transport=replace(PROFILE.transport, retries=0))
    with pytest.raises(DeviceError, match="Host key verification failed"):
        Device(profile, replace(transport, options=options)).__enter__()
    assert nobody.read_text() == ""


def test_the_users_own_options_cannot_turn_the_check_off(ssh_server: SshServer) -> None:
    # Of an option given twice OpenSSH takes the first.
    command = ssh_server.transport().command("null")
    assert "StrictHostKeyChecking=yes" in command
    careless = replace(ssh_server.transport(), options=("StrictHostKeyChecking=no",)).command("null")
    assert careless.index("StrictHostKeyChecking=yes") < careless.index("StrictHostKeyChecking=no")


def test_a_python_without_numpy_is_said_so(ssh_server: SshServer, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    transport = ssh_server.transport(python=str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(DeviceError, match=r"exit code 1 while starting \(ModuleNotFoundError: No module named 'numpy'"):
        Device(PROFILE, transport).__enter__()
