"""Models that do not fit into one file, with the limit of 2 GiB lowered: ONNX with its constants beside it."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeq.exporters.onnx import export as onnx_export
from edgeq.exporters.tflite import writer as tflite_writer
from edgeq.pipeline import onnx_artifact

from .conftest import Project, Run


@pytest.fixture
def large(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project's model, its constants in a file beside it, where files hold 500 bytes of constants."""
    model = onnx.load(project.model)
    project.model.unlink()
    onnx.save(model, project.model, save_as_external_data=True, location="model.bin", size_threshold=0)
    monkeypatch.setitem(onnx_export.__globals__, "_LARGEST", 500)
    monkeypatch.setattr(onnx_artifact, "_FLOAT_BESIDE", 500)
    monkeypatch.setattr(tflite_writer, "_LIMIT", (1 << 24) + 500)
    return project


def outputs(project: Project, file: str) -> np.ndarray:
    session = onnxruntime.InferenceSession(project.output / file, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": np.load(project.evaluation)["x"]})[0])


@pytest.mark.parametrize("bits", ["w8a8", "w8"])
def test_the_release_has_its_constants_beside_the_model(edgeq: Run, large: Project, bits: str) -> None:
    result = edgeq(*large.arguments(), "--bits", bits, "--device", "cpu-onnxruntime", "--no-diagnose")
    assert result.code in (0, 3), result.err
    names = {path.name for path in large.output.iterdir()}
    assert {"model.onnx", "model.onnx.data"} <= names
    assert "model.tflite" not in names
    report = json.loads((large.output / "report.json").read_text())
    (device,) = report["devices"].values()
    if (
        bits == "w8a8"
    ):  # ONNX Runtime multiplies weights alone by a float kernel of its own, which no simulation follows
        assert device["parity"]["unequal"] == 0
    assert device["metric"]["deployed"] > 0.9
    sizes = {artifact["name"]: artifact["size_bytes"] for artifact in report["artifacts"]}
    assert device["size"]["bytes"] == sum(sizes.values()) == sum((large.output / n).stat().st_size for n in sizes)
    assert any("a .tflite file, a flatbuffer, holds less than 2,048" in note for note in report["notes"])
    assert edgeq("verify", large.output).code == 0
    assert not list(large.output.parent.glob(".*/files-*"))  # what the run itself needed is gone
    beside = outputs(large, "model.onnx")
    (large.output / "model.onnx.data").write_bytes(bytes(sizes["model.onnx.data"]))
    assert "was changed after the release was written" in edgeq("verify", large.output).out
    assert not np.array_equal(outputs(large, "model.onnx"), beside)


def test_it_is_what_one_file_would_be(edgeq: Run, large: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--device", "cpu-onnxruntime", "--no-diagnose")
    edgeq(*large.arguments(), *options)
    beside = outputs(large, "model.onnx")
    monkeypatch.undo()
    edgeq(*large.arguments(output=large.output.with_name("whole")), *options)
    assert not (large.output.with_name("whole") / "model.onnx.data").exists()
    session = onnxruntime.InferenceSession(large.output.with_name("whole") / "model.onnx")
    np.testing.assert_array_equal(session.run(None, {"x": np.load(large.evaluation)["x"]})[0], beside)


def test_a_device_that_only_takes_tflite_is_refused_in_one_line(edgeq: Run, large: Project) -> None:
    result = edgeq(*large.arguments(), "--device", "cpu-litert", "--no-diagnose")
    assert result.code == 2
    assert "holds less than 2,048; take the ONNX file, with `--device cpu-onnxruntime`" in result.err
    assert len(result.err.splitlines()) == 1


def test_where_tflite_was_asked_for_too_the_onnx_file_still_comes_out(edgeq: Run, large: Project) -> None:
    both = ("--device", "cpu-onnxruntime", "--device", "cpu-litert")
    result = edgeq(*large.arguments(), *both, "--no-diagnose")
    assert result.code == 4
    assert (large.output / "model.onnx.data").is_file()
    report = json.loads((large.output / "report.json").read_text())
    assert list(report["devices"]) == ["cpu-onnxruntime"]
    assert "cpu-litert was asked for and not measured" in (large.output / "junit.xml").read_text()
