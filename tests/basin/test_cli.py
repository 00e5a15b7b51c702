"""``edgeq diagnose`` as a user runs it: one JSON object, pictures, anybody's file, one line for bad input."""

import json
import re
import shlex
import subprocess
import sys
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgeq.cli import main
from edgeq.cli.validate import command as validate
from edgeq.errors import ExitCode
from edgeq.exporters.onnx import export

from . import demo

DEMO = files("edgeq") / "demo"
MODEL, DATA = str(DEMO / "digits.onnx"), str(DEMO / "train.npz")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeq", "diagnose", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_json_is_one_object_with_the_promised_names() -> None:
    done = _run(MODEL, "--data", DATA, "--bits", "w3a8", "--samples", "64", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert done.stderr == ""
    assert {"verdict", "D", "A", "K", "R", "I", "p", "t_star", "repaired", "layers", "remedy"} <= found.keys()
    assert all("edgeq convert" in command for command in found["remedy"])


def test_a_quantized_file_and_its_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w4a8.onnx"
    path.write_bytes(export(demo.graph(), demo.plan("w4a8")))
    with pytest.raises(SystemExit) as left:
        main(["diagnose", MODEL, "--data", DATA, "--candidate", str(path), "--samples", "16",
              "--pictures", str(tmp_path / "p")])  # fmt: skip
    assert left.value.code == 0
    said = capsys.readouterr().err
    assert re.search(r"16 probe samples: about \d+ s if the candidate is healthy, \d+ s at most", said)
    assert {p.name for p in (tmp_path / "p").iterdir()} == {"path.svg", "valley.svg", "blame.svg", "widths.svg"}


@pytest.mark.parametrize("bits", ["w2a8", "w8a8"])
def test_a_file_is_cured_in_its_own_number_format(
    bits: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not in the format that ``--bits`` would ask for; a healthy file is validated and not made anew."""
    path = tmp_path / "theirs.onnx"
    path.write_bytes(export(demo.graph(), demo.plan(bits)))
    with pytest.raises(SystemExit) as left:
        main(["diagnose", MODEL, "--data", DATA, "--candidate", str(path), "--samples", "48", "--json"])
    assert left.value.code == 0
    found = json.loads(capsys.readouterr().out)
    if bits == "w8a8":
        assert found["verdict"] == "inside"
        (words,) = map(shlex.split, found["remedy"])
        assert words[:3] == ["edgeq", "validate", str(path)]
        validate.make_context("validate", words[2:])
    else:
        # Whether rounding helps is tried in that format too.
        assert found["rounded"] < found["D"]
        assert all(f"--bits {bits}" in line for line in found["remedy"])
        # More bits go to layers that are to blame, not to those that are not.
        blame = {layer["name"]: layer["blame"] for layer in found["layers"]}
        wider = {name for name in blame for line in found["remedy"] if f"--bits-for {name}=" in line}
        assert wider
        assert all(blame[name] >= 0.05 * max(blame.values()) for name in wider)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bits", "w9"), "weights take 2 to 8 bits"),
        (("--samples", "2"), "at least 8 are needed"),
        (("--candidate", "missing.onnx"), "missing.onnx"),
        (("--candidate", MODEL), "no quantized weight of the candidate"),
        (("--bits-for", "nowhere=w4"), "matches no layer"),
        (("--task", "tokens", "--samples", "8"), "--task tokens does not fit"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["diagnose", MODEL, "--data", DATA, "--quiet", *arguments])
    assert left.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert message in said[0]


def _recurrent(folder: Path) -> tuple[str, str]:
    """A cell with its state in and out: y, h' = tanh(x W + h U + h[1]) V, tanh(...); two layers' states in one array.

    One layer's state is read for itself, so that the first axis of the state cannot be taken for samples.
    """
    generator = np.random.default_rng(0)
    sizes = {"W": (4, 8), "U": (8, 8), "V": (8, 3)}
    weights = {name: generator.normal(0, 0.4, size) for name, size in sizes.items()}
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["xw"], "from_input"),
        helper.make_node("MatMul", ["h", "U"], ["hu"], "from_state"),
        helper.make_node("Gather", ["h", "second"], ["upper"], axis=0),
        helper.make_node("Add", ["xw", "hu"], ["both"]),
        helper.make_node("Add", ["both", "upper"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["state"]),
        helper.make_node("MatMul", ["state", "V"], ["y"], "readout"),
    ]
    value = partial(helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
    graph = helper.make_graph(
        nodes, "cell", [value("x", shape=[2, 4]), value("h", shape=[2, 8])],
        [value("y", shape=[2, 3]), value("state", shape=[2, 8])],
        [numpy_helper.from_array(np.array(1), "second"),
         *(numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items())],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "cell.onnx")
    x, h = generator.normal(size=(64, 2, 4)), np.tanh(generator.normal(size=(64, 2, 8)))
    np.savez(folder / "whole.npz", x=x.astype(np.float32), h=h.astype(np.float32))
    return str(folder / "cell.onnx"), str(folder / "whole.npz")


@pytest.mark.parametrize("bits", ["w8a8", "w2"])
def test_a_recurrent_cell_whose_samples_are_whole_inputs(
    bits: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = _recurrent(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["diagnose", model, "--data", data, "--bits", bits, "--samples", "24", "--json"])
    said = capsys.readouterr()
    assert left.value.code == 0, said.err
    found = json.loads(said.out)
    assert found["task"] == "values"
    assert found["samples"] == 24
    assert {layer["name"] for layer in found["layers"]} == {"from_input", "from_state", "readout"}
    assert found["verdict"] == "inside" if bits == "w8a8" else found["D"] > 0.05


@pytest.mark.slow
def test_the_commands_of_a_diagnosis_run(tmp_path: Path) -> None:
    """Each remedy as it is printed, with a shorter budget: a release comes of it, whether it passes the gate or not."""
    found = json.loads(_run(MODEL, "--data", DATA, "--bits", "w2a8", "--samples", "64", "--json").stdout)
    assert found["remedy"]
    for index, line in enumerate(found["remedy"]):
        words = re.sub(r"--recover-budget \S+", "--recover-budget 2steps", line)
        release = tmp_path / str(index)
        more = ["--device", "cpu-onnxruntime", "--latency-runs", "0", "--no-diagnose", "-q", "-o", str(release)]
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(words), *more], capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode in (ExitCode.PASSED, ExitCode.FAILED, ExitCode.INCONCLUSIVE), done.stderr
        assert (release / "report.json").exists()
