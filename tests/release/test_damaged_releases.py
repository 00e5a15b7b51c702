"""A real release gated against its baseline; then damaged on purpose: each damage is caught for its reason."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgeq.pipeline import artifacts, convert
from edgeq.pipeline.options import Options
from edgeq.plan.bits import Bits
from edgeq.release.budgets import Budgets
from edgeq.release.gate import gate
from edgeq.release.outcome import Judgement, Outcome
from edgeq.release.report_json import read_report

pytestmark = pytest.mark.slow
BUDGETS = Budgets(accuracy_drop=0.02, slowdown=0.25)
Damage = Callable[[onnx.ModelProto], None]


def build(folder: Path, data: Path, damage: Damage | None, monkeypatch: pytest.MonkeyPatch) -> Path:
    demo = resources.files("edgeq.demo")
    if damage is not None:
        export = artifacts.onnx_format.export

        def damaged(*arguments: object, **options: object) -> bytes:
            data: bytes = export(*arguments, **options)
            if arguments[1] is None:  # the float model
                return data
            model = onnx.load_from_string(data)
            damage(model)
            return model.SerializeToString()

        monkeypatch.setattr(artifacts.onnx_format, "export", damaged)
    options = Options(
        model=str(demo / "digits.onnx"),
        data=str(data),
        evaluation=str(demo / "evaluation.npz"),
        output=folder / "release",
        devices=("cpu-onnxruntime",),
        bits=Bits.parse("w8a8"),
        method="nearest",
        latency_runs=60,
        diagnose=False,
        budgets=BUDGETS,
    )
    convert(options)
    return folder / "release"


def weights(model: onnx.ModelProto) -> list[tuple[onnx.TensorProto, onnx.TensorProto]]:
    """Codes and scale of every weight."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    pairs = [
        (constants[node.input[0]], constants[node.input[1]])
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    ]
    return [(codes, scale) for codes, scale in pairs if codes.data_type == onnx.TensorProto.INT8]


def double_a_scale(model: onnx.ModelProto) -> None:
    _, scale = weights(model)[1]
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(2), scale.name))


def one_scale_for_all_channels(model: onnx.ModelProto) -> None:
    for codes, scale in weights(model):
        old = numpy_helper.to_array(scale)
        if old.ndim == 1:
            numbers = numpy_helper.to_array(codes)
            axis = numbers.shape.index(old.size)  # on a square matrix perhaps the other axis: damage all the same
            shape = [1] * numbers.ndim
            shape[axis] = -1
            new = np.rint(numbers * (old / old.max()).reshape(shape)).astype(np.int8)
            codes.CopyFrom(numpy_helper.from_array(new, codes.name))
            scale.CopyFrom(numpy_helper.from_array(np.full_like(old, old.max()), scale.name))


def slow_down(model: onnx.ModelProto) -> None:
    """sqrt(x * x) a hundred times before the first op: the same numbers, since pixels are not negative."""
    name, last = model.graph.input[0].name, model.graph.input[0].name
    nodes = []
    for index in range(100):
        nodes += [
            helper.make_node("Mul", [last, last], [f"slow_square_{index}"]),
            helper.make_node("Sqrt", [f"slow_square_{index}"], [f"slow_{index}"]),
        ]
        last = f"slow_{index}"
    for node in model.graph.node:
        for position, read in enumerate(node.input):
            if read == name:
                node.input[position] = last
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def judged(release: Path, baseline: Path) -> Judgement:
    return gate(read_report(release)[0], BUDGETS, baseline=read_report(baseline)[0], folder=release)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = Path(str(resources.files("edgeq.demo") / "train.npz"))
    with pytest.MonkeyPatch.context() as patch:
        return build(tmp_path_factory.mktemp("baseline"), data, None, patch)


def test_the_same_release_again_passes_against_its_baseline(
    baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(str(resources.files("edgeq.demo") / "train.npz"))
    again = judged(build(tmp_path, data, None, monkeypatch), baseline)
    # Times of some 20 microseconds on a busy machine may leave the slowdown undecided; nothing may fail.
    assert {check.name for check in again.checks if check.outcome is not Outcome.PASS} <= {"slowdown"}
    assert again.outcome is not Outcome.FAIL


@pytest.mark.parametrize(
    ("damage", "check", "why"),
    [
        (double_a_scale, "delivered", "scale"),
        (one_scale_for_all_channels, "delivered", "code"),
        (slow_down, "slowdown", "in the last release"),
    ],
)
def test_a_damaged_file_fails_for_its_reason(
    baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage, check: str, why: str
) -> None:
    data = Path(str(resources.files("edgeq.demo") / "train.npz"))
    judgement = judged(build(tmp_path, data, damage, monkeypatch), baseline)
    failed = {c.name: c.reason for c in judgement.checks if c.outcome is Outcome.FAIL}
    assert check in failed
    assert why in failed[check]


def test_calibrating_with_wrong_preprocessing_fails_on_accuracy(
    baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with np.load(str(resources.files("edgeq.demo") / "train.npz")) as train:
        np.savez(tmp_path / "wrong.npz", x=train["x"] / np.float32(16), y=train["y"])
    judgement = judged(build(tmp_path, tmp_path / "wrong.npz", None, monkeypatch), baseline)
    failed = {c.name for c in judgement.checks if c.outcome is Outcome.FAIL}
    assert {"accuracy_drop", "baseline_drop"} <= failed
