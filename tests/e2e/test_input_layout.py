"""``--input-layout``: both files take images as the user chose, and both are evaluated so."""

import json

import onnx
import pytest

from edgeq.exporters.tflite import read

from .conftest import Project, Run


@pytest.mark.parametrize(
    ("layout", "onnx_shape", "tflite_shape", "transposes"),
    [
        ("auto", [3, 8, 8], (1, 8, 8, 3), 0),
        ("nhwc", [8, 8, 3], (1, 8, 8, 3), 0),
        ("nchw", [3, 8, 8], (1, 3, 8, 8), 1),
    ],
)
def test_files_take_images_as_asked(
    edgeq: Run, project: Project, layout: str, onnx_shape: list[int], tflite_shape: tuple[int, ...], transposes: int
) -> None:
    result = edgeq(*project.arguments(), "--input-layout", layout, "--no-diagnose")
    assert result.code in (0, 3), result.err
    given = onnx.load(project.output / "model.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in given[1:]] == onnx_shape
    file = read((project.output / "model.tflite").read_bytes())
    assert file.tensors[file.inputs["x"]].shape == tflite_shape
    assert sum(operator.code == "TRANSPOSE" for operator in file.operators) == transposes
    report = json.loads((project.output / "report.json").read_text())
    for device in report["devices"].values():
        assert device["parity"]["unequal"] == 0
        assert device["metric"]["deployed"] > 0.9
