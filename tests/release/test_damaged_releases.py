"""A real release gated against its baseline; then damaged on purpose: each damage is caught for its reason."""

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from edgeq.pipeline.options import Options
from edgeq.release.budgets import Budgets
from edgeq.release.gate import gate
from edgeq.release.outcome import Judgement, Outcome
from edgeq.release.report_json import read_report

from .damages import Damage, build, double_a_scale, one_scale_for_all_channels, slow_down

pytestmark = pytest.mark.slow
BUDGETS = Budgets(accuracy_drop=0.02, slowdown=0.25)
DEMO = Path(str(resources.files("edgeq.demo")))


def release(folder: Path, damage: Damage | None = None, data: Path = DEMO / "train.npz") -> Path:
    options = Options(
        model=str(DEMO / "digits.onnx"),
        data=str(data),
        evaluation=str(DEMO / "evaluation.npz"),
        output=folder / "release",
        devices=("cpu-onnxruntime",),
        method="nearest",
        latency_runs=60,
        diagnose=False,
        budgets=BUDGETS,
    )
    return build(options, damage).folder


def judged(folder: Path, baseline: Path) -> Judgement:
    return gate(read_report(folder)[0], BUDGETS, baseline=read_report(baseline)[0], folder=folder)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release(tmp_path_factory.mktemp("baseline"))


def test_the_same_release_again_passes_against_its_baseline(baseline: Path, tmp_path: Path) -> None:
    again = judged(release(tmp_path), baseline)
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
    baseline: Path, tmp_path: Path, damage: Damage, check: str, why: str
) -> None:
    judgement = judged(release(tmp_path, damage), baseline)
    failed = {c.name: c.reason for c in judgement.checks if c.outcome is Outcome.FAIL}
    assert check in failed
    assert why in failed[check]


def test_calibrating_with_wrong_preprocessing_fails_on_accuracy(baseline: Path, tmp_path: Path) -> None:
    with np.load(DEMO / "train.npz") as train:
        np.savez(tmp_path / "wrong.npz", x=train["x"] / np.float32(16), y=train["y"])
    judgement = judged(release(tmp_path, data=tmp_path / "wrong.npz"), baseline)
    failed = {c.name for c in judgement.checks if c.outcome is Outcome.FAIL}
    assert {"accuracy_drop", "baseline_drop"} <= failed
