"""A float model whose weights lie in a file beside it reaches every device whole."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeq.devices import Device, load_profile, open_device
from edgeq.devices.agent import Agent, AgentError
from edgeq.devices.artifact import read_artifact
from edgeq.errors import ModelError

from . import models
from .conftest import SshServer


@pytest.fixture
def external(tmp_path: Path) -> Path:
    path = tmp_path / "float.onnx"
    model = onnx.load_model_from_string(models.onnx_float())
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").stat().st_size > 100
    return path


def test_locally_and_over_ssh(external: Path, ssh_server: SshServer) -> None:
    profile = load_profile("cpu-onnxruntime")
    expected = models.float_layer(models.SAMPLES)
    for device in (open_device(profile), Device(profile, ssh_server.transport())):
        with device:
            y = device.run(device.load(external), {"x": models.SAMPLES})["y"]
        # Sums of six products in another order: a few units in the last place of float32.
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_emulated(external: Path) -> None:
    with open_device(load_profile("arm64-onnxruntime")) as device:
        y = device.run(device.load(external), {"x": models.SAMPLES})["y"]
    np.testing.assert_allclose(y, models.float_layer(models.SAMPLES), rtol=1e-5, atol=1e-5)


def test_a_plain_file_is_left_as_it_is(tmp_path: Path) -> None:
    for name, data in (("a.onnx", models.onnx_float()), ("a.tflite", b"location"), ("bad.onnx", b"a bad location")):
        (tmp_path / name).write_bytes(data)
        read = read_artifact(tmp_path / name)
        assert (read.data, read.beside, read.folder) == (data, (), None)
        assert read.sha256 == hashlib.sha256(data).hexdigest()


def test_what_lies_beside_it_belongs_to_it(external: Path) -> None:
    first, weights = read_artifact(external), external.parent / "weights.bin"
    assert first.beside == ("weights.bin",)
    assert first.size_bytes == external.stat().st_size + weights.stat().st_size
    before = first.sha256
    weights.write_bytes(weights.read_bytes()[::-1])
    assert read_artifact(external).sha256 != before
    assert read_artifact(external).data_sha256 == first.data_sha256


def test_it_is_sent_once_and_keeps_its_name(external: Path, ssh_server: SshServer, tmp_path: Path) -> None:
    store = tmp_path / "store"
    transport = replace(ssh_server.transport(), store=str(store))
    for _ in range(2):
        with Device(load_profile("cpu-onnxruntime"), transport) as device:
            device.run(device.load(external), {"x": models.SAMPLES})
    digest = read_artifact(external).beside_sha256["weights.bin"]
    (kept,) = store.glob("beside-*/weights.bin")
    assert kept.read_bytes() == (store / digest).read_bytes() == (external.parent / "weights.bin").read_bytes()


@pytest.mark.parametrize("name", ["../weights.bin", "/weights.bin", ""])
def test_the_agent_writes_nowhere_else(name: str, tmp_path: Path) -> None:
    agent = Agent("null", tmp_path)
    with pytest.raises(AgentError, match="cannot be called"):
        agent.do_load({}, "0", "0" * 64, {}, beside={name: "0" * 64})
    assert not list(tmp_path.rglob("weights.bin"))


def test_missing_external_data_is_one_line(external: Path) -> None:
    (external.parent / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"float\.onnx: its external data cannot be read: .*weights\.bin") as caught:
        read_artifact(external)
    assert "\n" not in str(caught.value)


def test_external_data_outside_of_the_models_folder_are_not_followed(external: Path, tmp_path: Path) -> None:
    model = onnx.load(external, load_external_data=False)
    for tensor in model.graph.initializer:
        entry = next(entry for entry in tensor.external_data if entry.key == "location")
        entry.value = "../weights.bin"
    inner = tmp_path / "inner"
    inner.mkdir()
    onnx.save(model, inner / "float.onnx")
    with pytest.raises(ModelError, match="its external data cannot be read"):
        read_artifact(inner / "float.onnx")
