"""The thresholds in the code are those that the benchmark fitted."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from edgeq.basin.verdict import Thresholds

RESULTS = Path(__file__).parents[2] / "benchmarks" / "diagnostic" / "results"


def test_defaults_are_the_fitted_ones() -> None:
    fitted = json.loads((RESULTS / "verdicts.json").read_text(encoding="utf-8"))["thresholds"]
    # The file holds more digits than the code states.
    assert asdict(Thresholds()) == pytest.approx(fitted, abs=1e-4)


def test_fitting_and_held_out_models_are_disjoint() -> None:
    rows = [json.loads(line) for line in (RESULTS / "cases.jsonl").read_text(encoding="utf-8").splitlines()]
    fitting = {row["model"] for row in rows if row["fitting"]}
    held = {row["model"] for row in rows if not row["fitting"]}
    assert fitting
    assert held
    assert not fitting & held
