"""A float model whose weights lie in a file beside it reaches every device whole."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeq.devices import Device, load_profile, open_device
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
        assert read_artifact(tmp_path / name) == data


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
