"""``edgeq devices``, ``edgeq profile`` and ``edgeq validate``, as a user runs them."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgeq.cli import main
from edgeq.devices import list_profiles

from . import models


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the layer as float and integer files, and samples."""
    files = {
        "float.onnx": models.onnx_float(),
        "int8.onnx": models.onnx_integer(),
        "float.tflite": models.tflite_float(),
        "int8.tflite": models.tflite_integer(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    y = models.float_layer(models.SAMPLES).argmax(1)
    np.savez(tmp_path / "samples.npz", x=models.SAMPLES, y=y)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edgeq(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Run a command that must exit with that code; returns what it printed, errors after results."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    printed = capsys.readouterr()
    assert caught.value.code == code, printed.err
    return printed.out + printed.err


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert [line.split()[0] for line in edgeq(capsys, "devices", "list").splitlines()] == list(list_profiles())
    assert 'name = "litert"' in edgeq(capsys, "devices", "show", "cpu-litert")
    assert json.loads(edgeq(capsys, "devices", "show", "cpu-litert", "--json"))["threads"] == 1
    assert "did you mean 'cpu-litert'" in edgeq(capsys, "devices", "show", "cpu-lite", code=2)


def test_check_says_what_is_there_and_what_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "away.toml").write_text(
        'name = "away"\n[runtime]\nname = "litert"\nversion = ">=2"\n[transport]\npython = "/no/python"\n'
    )
    printed = edgeq(capsys, "devices", "check", "cpu-litert", "away.toml", code=4)
    assert "cpu-litert: litert 2" in printed
    assert "away: cannot start /no/python" in printed


def test_probe_writes_profiles(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edgeq(capsys, "devices", "probe", "--runtime", "litert", "-o", "found", "--name", "desk")
    assert "# 8-bit dot products: " in (folder / "found" / "desk-litert.toml").read_text()
    assert "desk-litert: litert" in edgeq(capsys, "devices", "check", "found/desk-litert.toml").replace(
        "found/desk-litert.toml", "desk-litert"
    )


def test_profile_against_the_float_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads(edgeq(capsys, "profile", "int8.onnx", "--against", "float.onnx", "--runs", "50", "--json"))
    ratio = result["comparison"]["ratio"]
    assert ratio["low"] <= ratio["estimate"] <= ratio["high"]
    assert {op["kind"] for op in result["ops"]} == {"quantize", "integer"}
    # A layer of thirty weights is nothing to gain from: conversions cost more than it does.
    assert not result["verdict"]["faster"]
    assert "int8" in result["verdict"]["sentence"]


def test_profile_alone_as_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = edgeq(capsys, "profile", "int8.tflite", "--runs", "20")
    assert "int8.tflite" in printed
    assert "Fully Connected" in printed


def test_profile_says_what_exceeds_the_budgets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = edgeq(capsys, "devices", "show", "cpu-litert")
    (folder / "small.toml").write_text(text + "\n[budgets]\nsize_bytes = 100\nlatency_ms = 10000\n")
    printed = edgeq(capsys, "profile", "int8.tflite", "--device", "small.toml", "--runs", "10")
    assert "EXCEEDS the device's budget of 100" in printed
    assert "keeps to the device's budget of 10,000" in printed
    result = json.loads(edgeq(capsys, "profile", "int8.tflite", "--device", "small.toml", "--runs", "10", "--json"))
    assert [(budget["name"], budget["kept"]) for budget in result["budgets"]] == [
        ("size_bytes", False),
        ("latency_ms", True),
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["profile", "none.onnx"], 2, "cannot read none.onnx: No such file or directory"),
        (["profile", "float.onnx", "--device", "cpu-litert"], 2, "cpu-litert runs .tflite files"),
        (["profile", "samples.npz"], 2, "edgeq runs .onnx and .tflite files"),
        (["profile", "float.onnx", "--runs", "0"], 2, "--runs 0: at least 1"),
        (["profile", "bad.onnx"], 4, "while loading bad.onnx"),
        (["validate", "none.tflite", "--model", "float.onnx", "--eval", "samples.npz"], 2, "none.tflite: no such file"),
    ],
)
def test_wrong_use_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    (folder / "bad.onnx").write_bytes(b"bad")
    printed = edgeq(capsys, *arguments, code=code)
    assert message in printed
    assert printed.count("\n") == 1


def test_validate_on_several_devices(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    devices = ["--device", "cpu-litert", "--device", "cpu-litert-reference"]
    arguments = ["validate", "int8.tflite", "--model", "float.onnx", "--eval", "samples.npz", *devices]
    result = json.loads(edgeq(capsys, *arguments, "--json"))
    assert result["metric"] == "top1"
    assert result["float"] == 1.0
    integer = models.integer_layer(models.SAMPLES).argmax(1)
    expected = float((integer == models.float_layer(models.SAMPLES).argmax(1)).mean())
    assert result["devices"]["cpu-litert"]["metric"] == pytest.approx(expected)
    assert result["devices"]["cpu-litert-reference"]["parity"]["compared"] == 55
    assert "cpu-litert-reference" in edgeq(capsys, *arguments)


def test_a_device_that_is_away_does_not_stop_the_others(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "away.toml").write_text(
        'name = "away"\n[runtime]\nname = "litert"\nversion = ">=2"\n[transport]\npython = "/no/python"\n'
    )
    arguments = ["validate", "int8.tflite", "--model", "float.onnx", "--eval", "samples.npz"]
    result = json.loads(edgeq(capsys, *arguments, "--device", "away.toml", "--device", "cpu-litert", "--json", code=4))
    assert list(result["devices"]) == ["cpu-litert"]
    assert "cannot start /no/python" in result["failures"]["away"]
