"""report.json keeps its published schema, comes back as it was, and gates to the same judgement."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from edgeq.errors import DataError
from edgeq.measurement import Evaluation, Interval, Measurement
from edgeq.release.budgets import Budgets
from edgeq.release.gate import gate
from edgeq.release.release import Release
from edgeq.release.report_json import read_report, report_json, report_schema

MakeRelease = Callable[..., Release]
MakeMeasurement = Callable[..., Measurement]


def written(release: Release, budgets: Budgets | None = None) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(report_json(release, gate(release, budgets)))
    return content


def test_the_schema_is_a_schema_and_the_report_keeps_it(make_release: MakeRelease) -> None:
    jsonschema.Draft202012Validator.check_schema(report_schema())
    jsonschema.validate(written(make_release()), report_schema())


def test_the_names_that_scripts_rely_on(make_release: MakeRelease) -> None:
    report = written(make_release())
    assert report["outcome"] == "pass"
    assert {"name", "measured", "limit", "outcome", "reason"} <= set(report["checks"][0])
    assert {"metric", "agreement", "latency", "size"} <= set(report["devices"]["cpu-onnxruntime"])
    assert report["diagnosis"]["verdict"] == "inside"
    metric = report["devices"]["cpu-onnxruntime"]["metric"]
    assert (metric["float_on_target"], metric["deployed"]) == (0.9, 0.899)


@pytest.mark.parametrize("name", ["outcome", "checks", "devices", "schema_version", "evaluation"])
def test_the_schema_notices_a_missing_name(make_release: MakeRelease, name: str) -> None:
    report = written(make_release())
    del report[name]
    with pytest.raises(jsonschema.ValidationError, match=name):
        jsonschema.validate(report, report_schema())


def test_what_was_not_measured_keeps_the_schema_and_is_null(
    make_release: MakeRelease, make_measurement: MakeMeasurement
) -> None:
    bare = replace(
        make_measurement(latency=None, agreement=None, integer_mac_share=float("nan")),
        deployed=Evaluation("top1", np.full(2000, np.nan)),
    )
    report = written(make_release(bare, diagnosis=None, recovery=None))
    jsonschema.validate(report, report_schema())
    device = report["devices"]["cpu-onnxruntime"]
    assert (device["latency"], device["agreement"], device["metric"]["deployed"]) == (None, None, None)
    assert report["outcome"] == "fail"


def test_a_report_read_back_is_judged_the_same(
    make_release: MakeRelease, make_measurement: MakeMeasurement, tmp_path: Path
) -> None:
    budgets = Budgets(slice_drop=0.05, agreement=0.99, speed_up=1.2, parity_steps=1, integer_share=1.0)
    release = make_release(
        make_measurement(),
        make_measurement(profile="cpu-litert", artifact="model.tflite"),
        device_limits={"cpu-litert": {"latency_ms": 1.0}},
    )
    judgement = gate(release, budgets)
    (tmp_path / "report.json").write_bytes(report_json(release, judgement))
    again, recorded = read_report(tmp_path)
    assert recorded == judgement
    assert {c.name + c.device: c for c in gate(again, budgets).checks} == {
        c.name + c.device: c for c in judgement.checks
    }
    assert report_json(again, recorded) == report_json(release, judgement)


def test_nan_scores_stay_nan_and_still_fail(
    make_release: MakeRelease, make_measurement: MakeMeasurement, tmp_path: Path
) -> None:
    base = make_measurement()
    assert base.latency is not None
    broken = replace(
        base,
        deployed=Evaluation("top1", np.r_[np.nan, np.ones(1999)]),
        latency=replace(base.latency, ratio=Interval(float("nan"), 0.1, 0.2)),
    )
    release = make_release(broken)
    (tmp_path / "report.json").write_bytes(report_json(release, gate(release)))
    again, _ = read_report(tmp_path)
    outcomes = {check.name: check.outcome.value for check in gate(again, Budgets(speed_up=0.1)).checks}
    assert (outcomes["accuracy_drop"], outcomes["speed_up"]) == ("fail", "fail")


def test_the_same_release_gives_the_same_bytes(make_release: MakeRelease) -> None:
    release = make_release()
    assert report_json(release, gate(release)) == report_json(release, gate(release))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not JSON"),
        (b"[1, 2]", "schema version None"),
        (b'{"schema_version": 99}', "schema version 99"),
        (b'{"schema_version": 1, "checks": []}', "not a whole report"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_what_is_not_a_report_is_one_clear_error(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(DataError, match=why):
        read_report(tmp_path)


def test_a_missing_report_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="edgeq convert"):
        read_report(tmp_path)


def test_limits_that_are_no_budgets_are_an_error(make_release: MakeRelease, tmp_path: Path) -> None:
    report = written(make_release()) | {"device_limits": {"cpu-onnxruntime": {"size": 3}}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(DataError, match="not a whole report"):
        read_report(tmp_path)


@pytest.mark.parametrize("damage", [{"base64": "@@"}, {"base64": "AAA="}, {"dtype": "O"}])
def test_damaged_per_sample_numbers_are_an_error(
    make_release: MakeRelease, tmp_path: Path, damage: dict[str, str]
) -> None:
    report = written(make_release())
    report["devices"]["cpu-onnxruntime"]["samples"]["deployed"]["scores"] |= damage
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(DataError, match=r"per-sample numbers"):
        read_report(tmp_path)
