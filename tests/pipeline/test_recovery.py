"""Recovery as a stage of ``edgeq convert``: run again with another budget, and interrupted."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from edgeq.cli import main
from edgeq.errors import ExitCode
from edgeq.recovery import checkpoint

DEMO = files("edgeq") / "demo"
#: What a recovery keeps on its way.
KEPT = ".*.run/recovery-*.*"


def exit_code(folder: Path, budget: str) -> object:
    with pytest.raises(SystemExit) as left:
        main([
            "convert", str(DEMO / "digits.onnx"), "--data", str(DEMO / "train.npz"), "--samples", "64", "-q",
            "--bits", "w2a8", "--method", "nearest", "--recover-budget", budget, "--no-diagnose",
            "--device", "cpu-onnxruntime", "--latency-runs", "0", "-o", str(folder / "release"),
        ])  # fmt: skip
    return left.value.code


def recovered(folder: Path, budget: str) -> dict[str, Any]:
    """What the report says."""
    assert exit_code(folder, budget) in (ExitCode.PASSED, ExitCode.FAILED, ExitCode.INCONCLUSIVE)
    found: dict[str, Any] = json.loads((folder / "release" / "report.json").read_text())["recovery"]
    return found


def test_another_budget_is_another_run(tmp_path: Path) -> None:
    assert recovered(tmp_path, "8steps")["method"] == "QAT, 8 steps"
    assert not list(tmp_path.glob(KEPT)), "it goes when the stage is done"
    assert recovered(tmp_path, "12steps")["method"] == "QAT, 12 steps"


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoint.save
    steps: list[int] = []

    def interrupted(path: Path, run: str, state: dict[str, Any]) -> None:
        save(path, run, state)
        steps.append(state["step"])
        if len(steps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", interrupted)
    assert exit_code(tmp_path / "cut", "16steps") == ExitCode.INTERRUPTED
    assert len(list((tmp_path / "cut").glob(KEPT))) == 1
    found = recovered(tmp_path / "cut", "16steps")
    assert steps == sorted(set(steps)), "no step is made again"
    monkeypatch.undo()
    assert found == recovered(tmp_path / "whole", "16steps")
