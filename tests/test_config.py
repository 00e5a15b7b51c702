"""edgeq.toml: what it says is what happens; what it says wrong is one line that points to the place."""

import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edgeq.config import Key, commented_project, find_project, line_of, read_project
from edgeq.errors import UsageError

KEYS = {
    "model": Key("text"),
    "data": Key("text", help="Samples."),
    "bits": Key("text", default="w8a8"),
    "device": Key("text", many=True),
    "samples": Key("whole number", default=512),
    "max_drop": Key("number", default=0.01),
    "diagnose": Key("yes or no"),
}


def written(folder: Path, text: str, name: str = "edgeq.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_project_file_is_read(tmp_path: Path) -> None:
    text = """
[convert]
model = "m.onnx"
samples = 64
device = ["cpu-litert", "cpu-onnxruntime"]
[gate]
accuracy_drop = 0.02
slowdown = false
[gate.device.cpu-litert]
latency_ms = 5
parity = false
"""
    project = read_project(written(tmp_path, text), KEYS)
    assert project.convert == {"model": "m.onnx", "samples": 64, "device": ["cpu-litert", "cpu-onnxruntime"]}
    assert project.budgets.accuracy_drop == 0.02
    assert project.budgets.slowdown is None
    assert project.device_budgets == {"cpu-litert": {"latency_ms": 5, "parity": None}}


def test_one_value_stands_for_a_list_of_one(tmp_path: Path) -> None:
    assert read_project(written(tmp_path, '[convert]\ndevice = "a"'), KEYS).convert == {"device": ["a"]}


def test_pyproject_holds_the_same_tables(tmp_path: Path) -> None:
    text = '[project]\nname = "x"\n\n[tool.edgeq.convert]\nbits = "w4a8"\n[tool.edgeq.gate]\nspeed_up = 1.5\n'
    written(tmp_path, text, "pyproject.toml")
    project = find_project(tmp_path, KEYS)
    assert project is not None
    assert (project.convert, project.budgets.speed_up) == ({"bits": "w4a8"}, 1.5)


def test_edgeq_toml_goes_before_pyproject_and_neither_is_no_project(tmp_path: Path) -> None:
    assert find_project(tmp_path, KEYS) is None
    written(tmp_path, '[project]\nname = "x"\n', "pyproject.toml")
    assert find_project(tmp_path, KEYS) is None
    written(tmp_path, "[tool.edgeq.convert]\nsamples = 1\n", "pyproject.toml")
    written(tmp_path, "[convert]\nsamples = 2\n")
    project = find_project(tmp_path, KEYS)
    assert project is not None
    assert project.convert == {"samples": 2}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[convert]\nmodel = 'm'\nsampels = 3", "edgeq.toml line 3: 'sampels' is not known in [convert]; did you mean"),
        ("[convert]\n\nsamples = 'many'", "line 3: samples = 'many' is not a whole number"),
        ("[convert]\nsamples = true", "line 2: samples = True is not a whole number"),
        ("[convert]\ndiagnose = 1", "line 2: diagnose = 1 is not true or false"),
        ("[convert]\ndevice = ['a', 3]", "line 2: device = 3 is not a text"),
        ("[gates]\nparity = 1", "line 1: 'gates' is not known; did you mean 'gate'"),
        ("[gate]\naccuracy_dorp = 0.1", "line 2: 'accuracy_dorp' is not known in [gate]; did you mean 'accuracy_drop'"),
        ("[gate]\nagreement = 99", "line 2: budget agreement = 99: it is a share between 0 and 1"),
        ("[gate]\nspeed_up = 'fast'", "line 2: speed_up = 'fast' is not a number"),
        ("[gate]\naccuracy_drop = nan", "line 2: budget accuracy_drop = nan"),
        ("[gate]\nconfidence = false", "line 2: confidence = False is not a number"),
        ("[gate.device.pi]\nsize = 3", "line 2: 'size' is not known in [gate.device.pi]; did you mean 'size_bytes'"),
        ("gate = 3", "line 1: gate is a table: write [gate]"),
        ("[convert\nx", "not TOML: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(UsageError, match=re.escape(why)):
        read_project(written(tmp_path, text), KEYS)


def test_a_wrong_key_in_pyproject_is_found_there(tmp_path: Path) -> None:
    text = "[other.gate]\nsped_up = 1\n[tool.edgeq.gate]\nsped_up = 1\n"
    with pytest.raises(UsageError, match=r"pyproject.toml line 4: 'sped_up'.*'speed_up'"):
        read_project(written(tmp_path, text, "pyproject.toml"), KEYS)


def test_a_file_that_cannot_be_read_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_project(tmp_path / "none.toml", KEYS)
    (tmp_path / "edgeq.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        read_project(tmp_path / "edgeq.toml", KEYS)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_value_survives_the_commented_file(value: str) -> None:
    content = tomllib.loads(commented_project({"data": value}, KEYS))
    assert content["convert"] == {"data": value}


def test_every_commented_key_is_valid_when_uncommented(tmp_path: Path) -> None:
    text = commented_project({"model": "m.onnx", "data": "d.npz"}, KEYS)
    project = read_project(written(tmp_path, text), KEYS)
    assert project.budgets.accuracy_drop == 0.01
    opened = re.sub(r"^# ((\w+) = |\[)", r"\1", text, flags=re.MULTILINE)
    project = read_project(written(tmp_path, opened), KEYS)
    assert set(project.convert) == set(KEYS)
    assert project.device_budgets == {"cpu-litert": {"latency_ms": 5.0}}


def test_lines_are_found_in_their_own_table() -> None:
    text = 'a = 1\n[gate]\na = 2\n[gate.device."my board"]\na = 3\n'
    assert [line_of(text, table, "a") for table in ("", "gate", "gate.device.myboard", "none")] == [1, 3, 5, None]


def test_init_writes_a_file_that_reads_back_and_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeq.cli.init import command
    from edgeq.cli.project import convert_keys

    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(b"")
    (tmp_path / "d.npz").write_bytes(b"")
    runner = CliRunner()
    arguments = ["m.onnx", "--data", "d.npz", "--bits", "w4a8"]
    runner.invoke(command, arguments, catch_exceptions=False, standalone_mode=False)
    project = read_project(tmp_path / "edgeq.toml", convert_keys())
    assert project.convert == {"model": "m.onnx", "data": "d.npz", "bits": "w4a8"}
    with pytest.raises(UsageError, match="is there already"):
        runner.invoke(command, arguments, catch_exceptions=False, standalone_mode=False)
    with pytest.raises(UsageError, match="no such file"):
        runner.invoke(command, ["x.onnx", "--data", "d.npz"], catch_exceptions=False, standalone_mode=False)


def test_convert_takes_its_defaults_from_the_project_and_flags_override_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeq.cli.convert import command

    monkeypatch.chdir(tmp_path)
    text = '[convert]\nmodel = "m.onnx"\ndata = "d.npz"\nbits = "w4a8"\ndevice = ["cpu-litert"]\n[gate]\nspeed_up = 2\n'
    written(tmp_path, text)
    context = command.make_context("convert", [])
    assert (context.params["model"], context.params["data"], context.params["bits"]) == ("m.onnx", "d.npz", "w4a8")
    assert context.params["devices"] == ("cpu-litert",)
    assert context.obj.budgets.speed_up == 2
    context = command.make_context("convert", ["other.onnx", "--bits", "w8a8"])
    assert (context.params["model"], context.params["data"], context.params["bits"]) == ("other.onnx", "d.npz", "w8a8")
    written(tmp_path, "[convert]\nbitz = 'w8a8'\n")
    with pytest.raises(UsageError, match="line 2: 'bitz' is not known"):
        command.make_context("convert", [])
