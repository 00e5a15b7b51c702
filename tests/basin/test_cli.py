"""``edgeq diagnose`` as a user runs it: one JSON object, pictures, anybody's file, one line for bad input."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from edgeq.cli import main
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
    assert "probe samples, at most" in capsys.readouterr().err
    assert {p.name for p in (tmp_path / "p").iterdir()} == {"path.svg", "valley.svg", "blame.svg", "widths.svg"}


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
