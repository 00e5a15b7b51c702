"""``edgeq convert`` and ``edgeq demo`` as scripts use them: streams, JSON, sources of models and samples."""

import json
import tomllib
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import xmlschema
from onnx import TensorProto, helper, numpy_helper

from edgeq.cli import COMMANDS
from edgeq.release.report_json import report_schema

from . import models
from .conftest import Project, Run
from .test_bad_input import _FACTORY

ROOT = Path(__file__).parent.parent.parent
JUNIT = ROOT / "tests" / "release" / "schemas" / "junit.xsd"


def test_json_is_one_object_and_nothing_else(edgeq: Run, project: Project) -> None:
    result = edgeq(*project.arguments(), "--json")
    assert result.code in (0, 3)
    assert result.err == ""
    report = json.loads(result.out)
    assert report == json.loads((project.output / "report.json").read_text())
    jsonschema.validate(report, report_schema())
    xmlschema.XMLSchema10(JUNIT).validate(project.output / "junit.xml")
    assert report["outcome"] in ("pass", "inconclusive")
    assert set(report["devices"]) == {"cpu-onnxruntime", "cpu-litert"}
    assert all(device["parity"]["unequal"] == 0 for device in report["devices"].values())


def test_progress_goes_to_standard_error_and_the_table_to_standard_output(edgeq: Run, project: Project) -> None:
    arguments = [argument for argument in project.arguments() if argument != "--quiet"]
    result = edgeq(*arguments)
    for stage in ("load", "data", "calibrate", "quantize", "export", "validate cpu-onnxruntime", "validate cpu-litert"):
        assert any(line.startswith(stage) for line in result.err.splitlines()), stage
    assert "quantized, on target" in result.out
    assert not any(line.startswith("calibrate") for line in result.out.splitlines())
    assert str(project.output) in result.out.splitlines()[-1]


def test_what_was_reported_can_be_run_by_anybody(edgeq: Run, project: Project) -> None:
    assert edgeq(*project.arguments()).code in (0, 3)
    with np.load(project.evaluation) as stored:
        x, y = stored["x"], stored["y"]
    session = onnxruntime.InferenceSession(project.output / "model.onnx", providers=["CPUExecutionProvider"])
    accuracy = float((session.run(None, {"x": x})[0].argmax(1) == y).mean())
    report = json.loads((project.output / "report.json").read_text())
    assert report["devices"]["cpu-onnxruntime"]["metric"]["deployed"] == pytest.approx(accuracy)


def test_a_factory_its_weights_and_samples_of_a_function(
    edgeq: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.folder / "small_model.py").write_text(
        _FACTORY + "\nimport numpy as np\n\ndef batches():\n    rng = np.random.default_rng(0)\n"
        "    for _ in range(4):\n        yield rng.normal(size=(16, 3, 8, 8)).astype(np.float32)\n"
    )
    monkeypatch.chdir(project.folder)
    torch.manual_seed(0)
    state = {"conv.weight": torch.randn(8, 3, 3, 3), "conv.bias": torch.randn(8)}
    torch.save(state | {"head.weight": torch.randn(4, 8), "head.bias": torch.randn(4)}, "weights.pt")
    arguments = project.arguments(model="small_model:Small", data="small_model:batches", evaluation=None)
    result = edgeq(*arguments, "--input-shape", "1,3,8,8", "--weights", "weights.pt", "--json")
    assert result.code in (0, 3), result.err
    report = json.loads(result.out)
    # Without labels quality is agreement with the float model.
    assert report["devices"]["cpu-litert"]["metric"]["name"] == "agreement"
    text = (project.output / "model.onnx").read_bytes() + (project.output / "report.json").read_bytes()
    assert str(project.folder).encode() not in text


def test_one_device_only(edgeq: Run, project: Project) -> None:
    result = edgeq(*project.arguments(), "--device", "cpu-litert", "--json")
    report = json.loads(result.out)
    assert set(report["devices"]) == {"cpu-litert"}
    assert (project.output / "model.tflite").is_file()


def test_the_limits_of_a_device_profile_are_held_by_convert_and_by_gate(edgeq: Run, project: Project) -> None:
    profile = (ROOT / "devices" / "profiles" / "cpu-onnxruntime.toml").read_text().replace("cpu-onnxruntime", "board")
    (project.folder / "board.toml").write_text(profile + "\n[budgets]\nsize_bytes = 100\nmemory_bytes = 1000000000\n")
    result = edgeq(*project.arguments(), "--device", project.folder / "board.toml", "--no-diagnose", "--json")
    assert result.code == 1
    checks = {check["name"]: check for check in json.loads(result.out)["checks"]}
    assert (checks["size"]["outcome"], checks["size"]["limit"]) == ("fail", 100)
    assert "too much" in checks["size"]["reason"]
    # Memory is measured with latency, which was left out: a limit on what was not measured is not kept.
    assert checks["memory"]["outcome"] == "fail"
    assert "was not measured" in checks["memory"]["reason"]
    again = edgeq("gate", project.output, "--json")
    assert again.code == 1
    assert {check["name"]: check for check in json.loads(again.out)["checks"]} == checks


def test_every_layer_has_its_noise_and_its_parity(edgeq: Run, project: Project) -> None:
    report = json.loads(edgeq(*project.arguments(), "--json").out)
    integer = [layer for layer in report["layers"] if layer["integer"]]
    assert integer
    for layer in integer:
        # 8 bits leave some 30 dB; both runtimes' inner codes are compared with their own simulation.
        assert 15 < layer["sqnr_db"] < 70
        assert layer["parity_steps"] == 0


def test_activations_of_four_bits_are_equal_in_both_files_and_the_notes_say_what_became_of_them(
    edgeq: Run, project: Project
) -> None:
    arguments = project.arguments()
    report = json.loads(edgeq(*arguments, "--bits", "w4a4", "--method", "nearest", "--max-drop", 1, "--json").out)
    assert set(report["devices"]) == {"cpu-onnxruntime", "cpu-litert"}
    for device in report["devices"].values():
        assert device["parity"]["unequal"] == 0
        assert device["integer_mac_share"] == 1.0
    integer = [layer for layer in report["layers"] if layer["integer"]]
    assert {layer["parity_steps"] for layer in integer if layer["parity_steps"] is not None} == {0}
    for device, became in (
        ("cpu-litert", "activations of 4 bits lie in int8 and run at its speed"),
        ("cpu-onnxruntime", "activations of 4 bits lie in 8 and run on int8 kernels, a little slower"),
    ):
        notes = report["devices"][device]["notes"]
        assert any(became in note for note in notes), notes
    shown = edgeq("inspect", project.output / "model.tflite")
    assert shown.code == 0
    assert "100.0% in integer kernels" in shown.out


def test_the_same_command_gives_the_same_files(edgeq: Run, project: Project) -> None:
    first, second = project.folder / "a" / "release", project.folder / "b" / "release"
    for output in (first, second):
        assert edgeq(*project.arguments(output=output)).code in (0, 3)
    for name in ("model.onnx", "model.tflite", "report.json", "junit.xml", "summary.md"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_a_layer_left_in_float_is_in_the_report(edgeq: Run, project: Project) -> None:
    result = edgeq(*project.arguments(), "--float", "head", "--json")
    report = json.loads(result.out)
    reasons = {layer["name"]: layer["reason"] for layer in report["layers"]}
    assert reasons["head"] == "left in float as asked"
    assert all(0 < device["integer_mac_share"] < 1 for device in report["devices"].values())


def test_the_demo(edgeq: Run, tmp_path: Path) -> None:
    result = edgeq("demo", "-o", tmp_path / "demo-release", "--json")
    report = json.loads(result.out)
    assert result.code == 0, result.out
    assert report["outcome"] == "pass"
    for device in report["devices"].values():
        assert device["parity"]["unequal"] == 0
        assert device["integer_mac_share"] == 1.0
        assert device["metric"]["deployed"] > 0.95


def test_the_version(edgeq: Run) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert edgeq("--version").out == f"edgeq {declared}\n"


@pytest.mark.parametrize("command", [c for c in COMMANDS if (ROOT / "edgeq" / "cli" / f"{c}.py").is_file()])
def test_every_command_explains_itself(edgeq: Run, command: str) -> None:
    result = edgeq(command, "--help")
    assert result.code == 0
    assert result.out.startswith("Usage: edgeq")


def test_an_op_that_a_runtime_has_only_in_float_is_said_and_breaks_no_promise(edgeq: Run, project: Project) -> None:
    upsampled = helper.make_node("ConvTranspose", ["c1", "w2"], ["unknown"], name="up", pads=[1, 1, 1, 1])
    onnx.save(models.network(extra=[upsampled]), project.model)
    np.savez(project.evaluation, **models.samples(project.model, 64, seed=2))
    report = json.loads(edgeq(*project.arguments(), "--json").out)
    assert report["devices"]["cpu-onnxruntime"]["integer_mac_share"] < 1
    assert report["devices"]["cpu-litert"]["integer_mac_share"] == 1
    (delivered,) = [c for c in report["checks"] if c["name"] == "delivered" and c["device"] == "cpu-onnxruntime"]
    assert delivered["outcome"] == "pass", delivered
    assert "up (ConvTranspose) at w8a8 runs on cpu-onnxruntime, but no faster than in float" in report["notes"]


def test_a_sample_whose_output_has_many_rows_is_one_sample(edgeq: Run, project: Project) -> None:
    # A tagger of one sentence at a time: six words, three tags, no batch dimension at the output.
    rng = np.random.default_rng(0)
    constants = {"w": rng.normal(size=(4, 3)).astype(np.float32), "words": np.array([6, 3])}
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Reshape", ["p", "words"], ["y"])],
        "tagger",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [6, 3])],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), project.model)
    np.savez(project.data, x=rng.normal(size=(24, 1, 6, 4)).astype(np.float32))
    np.savez(project.evaluation, x=rng.normal(size=(20, 1, 6, 4)).astype(np.float32))
    report = json.loads(edgeq(*project.arguments(), "--json").out)
    assert set(report["devices"]) == {"cpu-onnxruntime", "cpu-litert"}
    for device in report["devices"].values():
        assert device["parity"]["compared"] == 20 * 6 * 3
        assert device["parity"]["unequal"] == 0
    assert not [check for check in report["checks"] if "scores for" in check["reason"]]
