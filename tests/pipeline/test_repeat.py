"""The command in the report repeats the run: read by the command line again, it gives the same options."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.calibration.preprocessing import Preprocessing
from edgeq.cli.convert import _options as parsed
from edgeq.cli.convert import command as convert
from edgeq.pipeline.options import Options
from edgeq.pipeline.repeat import command
from edgeq.plan.bits import FLOAT, Bits
from edgeq.release.budgets import Budgets

PLAIN = Options(model="m.onnx", data="d.npz", output=Path("release"))
FULL = Options(
    model="package.module:build",
    data="images",
    output=Path("release"),
    evaluation="e.npz",
    weights=Path("w.safetensors"),
    input_shapes=((1, 3, 8, 8), (1, 4)),
    input_types=("float32", "int64"),
    shapes={"input": (1, 576)},
    constants={"sr": 16000.0},
    preprocessing=Preprocessing(40, (32, 32), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255, "nchw"),
    samples=64,
    evaluation_samples=500,
    bits=Bits.parse("w4a8"),
    overrides=(("stem", Bits.parse("w8a8")), ("a layer's name*", FLOAT)),
    observer="percentile",
    method="gptq",
    devices=("cpu-litert",),
    metric="top5",
    io="float32",
    recover_budget="2min",
    diagnose=False,
    latency_runs=0,
    budgets=Budgets(accuracy_drop=0.02),
    seed=7,
)


def read(line: str) -> Options:
    words = shlex.split(line)
    assert words[:2] == ["edgeq", "convert"]
    given = convert.make_context("convert", words[2:]).params
    for output in ("as_json", "quiet", "verbose"):
        given.pop(output)
    found: Options = parsed(given.pop("model"), given)
    return found


@pytest.mark.parametrize("options", [PLAIN, FULL, replace(FULL, diagnose=True)], ids=["plain", "full", "diagnosed"])
def test_the_command_gives_the_same_options_again(options: Options) -> None:
    assert read(command(options)) == options


def test_folders_are_left_out() -> None:
    placed = replace(PLAIN, model="/models/m.onnx", data="/data/d.npz", weights=Path("/x/w.pt"))
    line = command(placed)
    assert "/" not in line
    assert read(line).model == "m.onnx"
