"""The gate: every check passes, fails and is undecided for its own reason; nothing missing is ever a pass."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import ExitCode, UsageError
from edgeq.measurement import Evaluation, Interval, Measurement, Parity
from edgeq.release.budgets import BUDGET_NAMES, Budgets
from edgeq.release.checks.resources import quotient
from edgeq.release.gate import gate
from edgeq.release.outcome import Check, Judgement, Outcome
from edgeq.release.release import Delivery, Release

MakeRelease = Callable[..., Release]
MakeMeasurement = Callable[..., Measurement]


def named(judgement: Judgement, name: str) -> Check:
    (check,) = [check for check in judgement.checks if check.name == name]
    return check


ALL = Budgets(
    accuracy_drop=0.01,
    baseline_drop=0.01,
    slice_drop=0.04,
    agreement=0.98,
    parity=0.99,
    parity_steps=1,
    size_bytes=300_000,
    memory_bytes=70_000_000,
    latency_ms=2.0,
    start_up_ms=40.0,
    speed_up=1.5,
    slowdown=0.1,
    integer_share=1.0,
)


def test_a_good_release_passes_every_check(make_release: MakeRelease) -> None:
    judgement = gate(make_release(), ALL, baseline=make_release())
    assert {check.name: check.outcome for check in judgement.checks} == dict.fromkeys(
        (check.name for check in judgement.checks), Outcome.PASS
    )
    assert {check.name for check in judgement.checks} == {
        *("accuracy_drop", "baseline_drop", "slice_drop", "agreement", "parity", "parity_steps", "delivered"),
        *("integer_share", "size", "memory", "latency", "start_up", "speed_up", "slowdown"),
    }
    assert judgement.outcome is Outcome.PASS
    assert judgement.outcome.exit_code is ExitCode.PASSED
    assert all(check.reason for check in judgement.checks)


def test_every_budget_has_a_check_that_it_switches_off(make_release: MakeRelease) -> None:
    off = Budgets(**dict.fromkeys(set(BUDGET_NAMES) - {"confidence", "delivered"}), delivered=False)
    judgement = gate(make_release(), off, baseline=make_release())
    assert judgement.checks == ()
    assert judgement.outcome is Outcome.FAIL
    assert "nothing was checked" in judgement.sentence


@pytest.mark.parametrize(
    ("budget", "name", "change", "why"),
    [
        ({"accuracy_drop": 0.01}, "accuracy_drop", {"lost": 200, "gained": 0}, "top1 dropped by 10 points"),
        ({"slice_drop": 0.02}, "slice_drop", {"lost": 200, "gained": 0}, "the worst of 4"),
        ({"agreement": 0.99}, "agreement", {"lost": 200, "gained": 0}, "1,800 of 2,000 decisions"),
        ({"parity": 0.99}, "parity", {"parity": Parity(100, 9, {0: 91, 2: 9}, 0.9)}, "computes otherwise"),
        ({"parity_steps": 1}, "parity_steps", {"parity": Parity(100, 9, {0: 91, 2: 9}, 0.9)}, "at most 2 steps"),
        ({"size_bytes": 100_000}, "size", {}, "190 KB too much"),
        ({"memory_bytes": 1e6}, "memory", {}, "59 MB too much"),
        ({"latency_ms": 1.0}, "latency", {}, "0.6 ms too much"),
        ({"start_up_ms": 30}, "start_up", {}, "3 ms too much"),
        ({"speed_up": 3}, "speed_up", {}, "2.00x the speed of the float model"),
        ({"integer_share": 1}, "integer_share", {"integer_mac_share": 0.8}, "80 % of the MACs"),
    ],
)
def test_a_broken_limit_fails_with_its_reason(
    make_release: MakeRelease,
    make_measurement: MakeMeasurement,
    budget: dict[str, float],
    name: str,
    change: dict[str, object],
    why: str,
) -> None:
    judgement = gate(make_release(make_measurement(**change)), Budgets(**budget))
    check = named(judgement, name)
    assert check.outcome is Outcome.FAIL
    assert why in check.reason
    assert judgement.outcome is Outcome.FAIL
    assert judgement.outcome.exit_code is ExitCode.FAILED


def test_twenty_samples_are_inconclusive_and_say_how_many_are_needed(
    make_release: MakeRelease, make_measurement: MakeMeasurement
) -> None:
    judgement = gate(make_release(make_measurement(samples=20, lost=0, gained=0)))
    check = named(judgement, "accuracy_drop")
    assert check.outcome is Outcome.INCONCLUSIVE
    assert "samples are needed to tell" in check.reason
    assert judgement.outcome.exit_code is ExitCode.INCONCLUSIVE


def test_a_lost_class_cannot_hide_in_the_mean(make_release: MakeRelease, make_measurement: MakeMeasurement) -> None:
    base = make_measurement(samples=4000, lost=0, gained=0)
    scores = base.deployed.scores.copy()
    scores[np.flatnonzero((np.arange(4000) % 4 == 2) & (scores == 1))[:20]] = 0.0  # 2 % of the ships, 0.5 % of all
    hurt = replace(base, deployed=Evaluation("top1", scores, base.deployed.decisions))
    judgement = gate(make_release(hurt), Budgets(accuracy_drop=0.01, slice_drop=0.01))
    assert named(judgement, "accuracy_drop").outcome is Outcome.PASS
    worst = named(judgement, "slice_drop")
    assert worst.outcome is not Outcome.PASS
    assert "class ship" in worst.reason


def test_a_worse_release_than_the_last_fails_though_it_keeps_the_budget_against_float(
    make_release: MakeRelease, make_measurement: MakeMeasurement
) -> None:
    now, last = make_measurement(lost=40, gained=40), make_measurement(lost=0, gained=90)
    judgement = gate(make_release(now), Budgets(accuracy_drop=0.02, baseline_drop=0.005), baseline=make_release(last))
    assert named(judgement, "accuracy_drop").outcome is Outcome.PASS
    assert named(judgement, "baseline_drop").outcome is Outcome.FAIL


def test_a_baseline_on_other_samples_or_without_the_device_cannot_decide(
    make_release: MakeRelease, make_measurement: MakeMeasurement
) -> None:
    release = make_release()
    other = replace(release, evaluation=replace(release.evaluation, digest="00" * 32))
    check = named(gate(release, baseline=other), "baseline_drop")
    assert (check.outcome, "other samples" in check.reason) == (Outcome.INCONCLUSIVE, True)
    elsewhere = make_release(make_measurement(profile="raspberry-pi"))
    check = named(gate(release, baseline=elsewhere), "baseline_drop")
    assert (check.outcome, "not measured on cpu-onnxruntime" in check.reason) == (Outcome.INCONCLUSIVE, True)


def test_a_slower_graph_than_the_last_release_fails(
    make_release: MakeRelease, make_measurement: MakeMeasurement
) -> None:
    base = make_measurement()
    assert base.latency is not None
    slow = replace(base, latency=replace(base.latency, ratio=Interval(0.7, 0.68, 0.72)))
    check = named(gate(make_release(slow), baseline=make_release(base)), "slowdown")
    assert check.outcome is Outcome.FAIL
    near = replace(base, latency=replace(base.latency, ratio=Interval(0.55, 0.53, 0.57)))
    assert named(gate(make_release(near), baseline=make_release(base)), "slowdown").outcome is Outcome.INCONCLUSIVE


def test_the_interval_of_a_quotient_holds_the_truth_as_often_as_it_says() -> None:
    random, count, noise = np.random.default_rng(0), 4000, np.array([0.05, 0.02])
    held = 0
    for found in np.exp(np.log([1.9, 2.1]) + noise * random.normal(size=(count, 2))):
        ends = np.exp(np.outer([-1.96, 1.96], noise)) * found
        now, before = (Interval(x, low, high) for x, low, high in zip(found, *ends, strict=True))
        interval = quotient(now, before)
        held += interval.low <= 1.9 / 2.1 <= interval.high
    # Four standard errors of a share of 0.95.
    assert held / count == pytest.approx(0.95, abs=4 * (0.95 * 0.05 / count) ** 0.5)


@pytest.mark.parametrize("field", ["float_on_target", "deployed"])
@pytest.mark.parametrize(
    ("scores", "why"),
    [
        (np.array([]), "no top1 was measured"),
        (np.ones(7), "7 scores for 2,000"),
        (np.full(2000, np.nan), "2,000 of 2,000 scores"),
        (np.r_[np.ones(1999), np.inf], "1 of 2,000 scores"),
    ],
)
def test_what_is_missing_or_not_a_number_fails(
    make_release: MakeRelease, make_measurement: MakeMeasurement, field: str, scores: np.ndarray, why: str
) -> None:
    broken = replace(make_measurement(), **{field: Evaluation("top1", scores)})
    judgement = gate(replace(make_release(), measurements=(broken,)), Budgets(slice_drop=0.1))
    for name in ("accuracy_drop", "slice_drop"):
        check = named(judgement, name)
        assert check.outcome is Outcome.FAIL
        assert why in check.reason


@pytest.mark.parametrize(
    ("budget", "name", "change"),
    [
        ({"agreement": 0.9}, "agreement", {"deployed": Evaluation("top1", np.ones(2000))}),
        ({"parity": 0.9}, "parity", {"parity": Parity(0, 0, {}, None)}),
        ({"parity": 0.9}, "parity", {"parity": Parity(10, 0, {0: 10}, float("nan"))}),
        ({"parity_steps": 3}, "parity_steps", {"parity": Parity(0, 0, {}, None)}),
        ({"latency_ms": 99}, "latency", {"latency": None}),
        ({"memory_bytes": 1e12}, "memory", {"latency": None}),
        ({"start_up_ms": 1e9}, "start_up", {"latency": None}),
        ({"speed_up": 0.1}, "speed_up", {"latency": None}),
        ({"size_bytes": 1e12}, "size", {"size_bytes": 0}),
        ({"integer_share": 0.0}, "integer_share", {"integer_mac_share": float("nan")}),
    ],
)
def test_an_unmeasured_budget_fails_however_wide_it_is(
    make_release: MakeRelease,
    make_measurement: MakeMeasurement,
    budget: dict[str, float],
    name: str,
    change: dict[str, object],
) -> None:
    check = named(gate(make_release(make_measurement(**change)), Budgets(**budget)), name)
    assert check.outcome is Outcome.FAIL
    assert check.measured is None


def test_a_nan_latency_ratio_fails(make_release: MakeRelease, make_measurement: MakeMeasurement) -> None:
    base = make_measurement()
    assert base.latency is not None
    broken = replace(base, latency=replace(base.latency, ratio=Interval(float("nan"), 0.4, 0.5)))
    assert named(gate(make_release(broken), Budgets(speed_up=0.1)), "speed_up").outcome is Outcome.FAIL


def test_a_slice_budget_without_slices_fails(make_release: MakeRelease) -> None:
    release = make_release()
    bare = replace(release, evaluation=replace(release.evaluation, slices=()))
    assert named(gate(bare, Budgets(slice_drop=0.5)), "slice_drop").outcome is Outcome.FAIL


def test_an_audit_line_that_is_not_as_asked_fails_and_is_named(make_release: MakeRelease) -> None:
    line = Delivery("model.onnx", "weights of fc", "int8 per channel", "float32", False, "runtime has no kernel")
    release = make_release()
    check = named(gate(replace(release, deliveries=(*release.deliveries, line))), "delivered")
    assert check.outcome is Outcome.FAIL
    assert "weights of fc: asked int8 per channel, delivered float32 (runtime has no kernel)" in check.reason
    assert named(gate(replace(release, deliveries=())), "delivered").outcome is Outcome.FAIL


def test_a_device_that_was_asked_for_and_not_measured_fails(make_release: MakeRelease) -> None:
    release = make_release()
    judgement = gate(replace(release, devices=("cpu-onnxruntime", "cpu-litert")))
    assert named(judgement, "measured").reason.startswith("cpu-litert was asked for and not measured")
    judgement = gate(release, device_budgets={"edge-board": {"latency_ms": 5}})
    assert named(judgement, "measured").device == "edge-board"
    judgement = gate(replace(release, measurements=(), devices=()))
    assert judgement.outcome is Outcome.FAIL


def test_a_file_that_ran_nowhere_or_is_stale_fails(make_release: MakeRelease, tmp_path: Path) -> None:
    release = make_release()
    extra = replace(release.artifacts[0], name="model.tflite")
    assert "ran on no device" in named(gate(replace(release, artifacts=(*release.artifacts, extra))), "measured").reason
    assert "missing" in named(gate(release, folder=tmp_path), "fresh").reason
    (tmp_path / "model.onnx").write_bytes(b"another file")
    assert "not the file that was measured" in named(gate(release, folder=tmp_path), "fresh").reason


def test_limits_of_one_device_replace_the_general_ones(
    make_release: MakeRelease, make_measurement: MakeMeasurement
) -> None:
    release = make_release(make_measurement(), make_measurement(profile="cpu-litert", artifact="model.tflite"))
    judgement = gate(release, Budgets(size_bytes=300_000), device_budgets={"cpu-litert": {"size_bytes": 1000}})
    sizes = {check.device: check.outcome for check in judgement.checks if check.name == "size"}
    assert sizes == {"cpu-onnxruntime": Outcome.PASS, "cpu-litert": Outcome.FAIL}


def test_what_a_device_profile_allows_is_held_too(make_release: MakeRelease, make_measurement: MakeMeasurement) -> None:
    stated = {"cpu-onnxruntime": {"size_bytes": 1000.0, "memory_bytes": 1e9, "latency_ms": 1.25, "start_up_ms": 99.0}}
    judgement = gate(make_release(device_limits=stated))
    found = {c.name: c.outcome for c in judgement.checks if c.limit in stated["cpu-onnxruntime"].values()}
    assert found == {
        "size": Outcome.FAIL,
        "memory": Outcome.PASS,
        "latency": Outcome.FAIL,
        "start_up": Outcome.PASS,
    }
    unmeasured = gate(make_release(make_measurement(latency=None), device_limits=stated))
    for name in ("memory", "latency", "start_up"):
        check = named(unmeasured, name)
        assert (check.outcome, check.measured) == (Outcome.FAIL, None)
        assert "was not measured" in check.reason


def test_of_the_projects_and_the_profiles_limit_the_stricter_holds_unless_replaced(make_release: MakeRelease) -> None:
    def size_limit(stated: float, general: float | None, **more: dict[str, float | None]) -> float | None:
        devices = {"cpu-onnxruntime": more["own"]} if "own" in more else {}
        release = make_release(device_limits={"cpu-onnxruntime": {"size_bytes": stated}})
        judgement = gate(
            release, Budgets(size_bytes=general), device_budgets=devices, overrides=more.get("overrides", {})
        )
        return next((check.limit for check in judgement.checks if check.name == "size"), None)

    assert size_limit(1e6, 5e5) == 5e5
    assert size_limit(1e6, 2e6) == 1e6
    assert size_limit(1e6, None) == 1e6
    assert size_limit(1e6, 5e5, own={"size_bytes": 3e6}) == 3e6
    assert size_limit(1e6, 5e5, own={"size_bytes": None}) is None
    assert size_limit(1e6, 5e5, own={"size_bytes": 3e6}, overrides={"size_bytes": 4e6}) == 4e6


def test_a_device_whose_profile_has_limits_and_was_not_measured_fails(make_release: MakeRelease) -> None:
    judgement = gate(make_release(device_limits={"board": {"size_bytes": 1e9}}))
    assert named(judgement, "measured").device == "board"


def test_scores_that_are_not_decisions_are_compared_by_bootstrap_in_the_right_direction(
    make_release: MakeRelease, make_measurement: MakeMeasurement
) -> None:
    rng = np.random.default_rng(0)
    error = rng.exponential(size=2000)

    def judged(deployed: np.ndarray) -> Outcome:
        subject = replace(
            make_measurement(), float_on_target=Evaluation("mse", error), deployed=Evaluation("mse", deployed)
        )
        return named(gate(make_release(subject), Budgets(accuracy_drop=0.05)), "accuracy_drop").outcome

    noise = rng.normal(scale=0.1, size=2000)
    assert judged(error + noise) is Outcome.PASS
    assert judged(error + 0.2 + noise) is Outcome.FAIL
    assert judged(error - 0.2 + noise) is Outcome.PASS
    assert judged(error + 0.05 + noise) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    "limits",
    [{"accuracy_drop": -0.1}, {"accuracy_drop": float("nan")}, {"agreement": 99}, {"confidence": 1.0}],
)
def test_impossible_budgets_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="budget"):
        Budgets(**limits)


def test_quality_is_judged_apart_from_cost() -> None:
    cheap, dear = Check("accuracy_drop", 0.0, 0.1, Outcome.PASS, ""), Check("size", 3.0, 1.0, Outcome.FAIL, "")
    assert Judgement((cheap, dear)).outcome is Outcome.FAIL
    assert Judgement((cheap, dear)).quality is Outcome.PASS
    assert Judgement((dear,)).quality is Outcome.FAIL
    assert Judgement((Check("agreement", None, 0.9, Outcome.INCONCLUSIVE, ""), dear)).quality is Outcome.INCONCLUSIVE


def test_the_judgement_is_the_worst_of_its_checks() -> None:
    good, bad, open_ = (
        Check("x", 1.0, 1.0, outcome, "") for outcome in (Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE)
    )
    assert Judgement((good,)).outcome is Outcome.PASS
    assert Judgement((good, open_)).outcome is Outcome.INCONCLUSIVE
    assert Judgement((good, open_, bad)).outcome is Outcome.FAIL
    assert Judgement(()).outcome is Outcome.FAIL
