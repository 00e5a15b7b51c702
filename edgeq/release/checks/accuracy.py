"""Quality on the deployed runtime: against the float model, the last release, in every slice, and by decision."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgeq.measurement import Evaluation, Measurement
from edgeq.release.checks.comparison import Compared, compare, direction, problem
from edgeq.release.checks.subject import Subject
from edgeq.release.checks.trial import Trial
from edgeq.release.outcome import Check, Outcome
from edgeq.release.show import show, show_interval
from edgeq.release.statistics.power import share_samples_needed
from edgeq.release.statistics.shares import clopper_pearson, share_broken, share_kept

_ADVICE = "find the cause with `edgeq diagnose`, then try more bits or recovery"


def accuracy_drop(subject: Subject) -> Iterator[Check | Trial]:
    """The deployed model against the float model on the same device, sample by sample."""
    limit = subject.budgets.accuracy_drop
    if limit is not None:
        yield _drop(subject, "accuracy_drop", subject.measurement.float_on_target, limit, "the float model")


def baseline_drop(subject: Subject) -> Iterator[Check | Trial]:
    """The deployed model against the last release's on the same device, sample by sample."""
    budgets = subject.budgets
    limit = budgets.accuracy_drop if budgets.baseline_drop is None else budgets.baseline_drop
    if subject.baseline is None or limit is None:
        return
    last = subject.baseline.measurement(subject.device)
    if last is None:
        reason = f"the last release was not measured on {subject.device}: measure it there or drop the baseline"
        yield Check("baseline_drop", None, limit, Outcome.INCONCLUSIVE, reason, subject.device)
    elif subject.baseline.evaluation.digest != subject.release.evaluation.digest:
        reason = "the last release was evaluated on other samples: evaluate it again on today's, so that they pair"
        yield Check("baseline_drop", None, limit, Outcome.INCONCLUSIVE, reason, subject.device)
    else:
        yield _drop(subject, "baseline_drop", last.deployed, limit, "the last release")


def slice_drop(subject: Subject) -> Iterator[Check | Trial]:
    """Every slice of the evaluation samples against the float model; the worst one speaks for all."""
    limit = subject.budgets.slice_drop
    if limit is None:
        return
    measurement = subject.measurement
    wrong = problem(measurement.float_on_target, measurement.deployed, subject.release.evaluation.samples)
    if wrong is not None:
        yield subject.missing("slice_drop", limit, wrong, "points")
        return
    samples = subject.release.evaluation.samples
    if any(slices.ids.size != samples for slices in subject.release.evaluation.slices):
        yield subject.missing("slice_drop", limit, f"a slice column does not cover all {samples:,} samples", "points")
        return
    groups = [
        (f"{slices.column} {name}", slices.ids == index)
        for slices in subject.release.evaluation.slices
        for index, name in enumerate(slices.names)
        if (slices.ids == index).any()
    ]
    if not groups:
        reason = "the evaluation samples have no slices: give labels or a column, or remove the budget"
        yield subject.missing("slice_drop", limit, reason, "points")
        return
    yield _worst_slice(subject, groups, limit)


def agreement(subject: Subject) -> Iterator[Check | Trial]:
    """Share of samples that get the float model's decision."""
    limit = subject.budgets.agreement
    if limit is None:
        return
    counts = agreeing(subject.measurement)
    if counts is None:
        yield subject.missing("agreement", limit, "the task has no decisions to compare: remove the budget", "share")
        return
    hits, samples = counts
    share = hits / samples
    low, high = clopper_pearson(hits, samples, _level(subject))
    yield Trial(
        name="agreement",
        device=subject.device,
        unit="share",
        measured=share,
        limit=limit,
        low=low,
        high=high,
        kept=share_kept(hits, samples, limit),
        broken=share_broken(hits, samples, limit),
        finding=f"{hits:,} of {samples:,} decisions are the float model's ({show(share, 'share')})",
        advice=_ADVICE,
        needed=lambda: share_samples_needed(share, limit, subject.budgets.alpha),
    )


def agreeing(measurement: Measurement) -> tuple[int, int] | None:
    """How many deployed decisions equal the float model's, of how many; None without decisions."""
    reference, deployed = measurement.float_on_target.decisions, measurement.deployed.decisions
    if reference is None or deployed is None or reference.shape != deployed.shape or not reference.size:
        return None
    return int(np.count_nonzero(reference == deployed)), reference.size


def _drop(subject: Subject, name: str, reference: Evaluation, limit: float, against: str) -> Check | Trial:
    deployed = subject.measurement.deployed
    wrong = problem(reference, deployed, subject.release.evaluation.samples)
    if wrong is not None:
        return subject.missing(name, limit, wrong)
    compared = compare(reference, deployed, limit, subject.budgets.alpha)
    if isinstance(compared, str):
        return Check(name, None, limit, Outcome.INCONCLUSIVE, compared, subject.device)
    interval = show_interval(compared.low, compared.high, compared.unit)
    return _trial(
        subject,
        name,
        compared,
        limit,
        finding=f"{_moved(compared)} against {against} ({interval}){compared.remark}",
    )


def _worst_slice(subject: Subject, groups: list[tuple[str, npt.NDArray[np.bool_]]], limit: float) -> Check | Trial:
    measurement, results = subject.measurement, []
    for name, mask in groups:
        reference, deployed = (
            Evaluation(evaluation.metric, evaluation.scores[mask])
            for evaluation in (measurement.float_on_target, measurement.deployed)
        )
        compared = compare(reference, deployed, limit, subject.budgets.alpha)
        if isinstance(compared, str):
            reason = f"slice {name}: {compared}"
            return Check("slice_drop", None, limit, Outcome.INCONCLUSIVE, reason, subject.device)
        results.append((compared, name))
    # All must be kept (the largest p-value), any may be broken (the smallest, times their number: Holm's first step).
    undecided = [pair for pair in results if pair[0].kept > subject.budgets.alpha]
    worst, name = min(undecided or results, key=lambda pair: (pair[0].broken, -pair[0].drop))
    finding = (
        f"slice {name}, the worst of {len(results)}: {_moved(worst)} "
        f"on its {worst.samples:,} samples ({show_interval(worst.low, worst.high, worst.unit)})"
    )
    trial = _trial(subject, "slice_drop", worst, limit, finding, of_what=f"samples of {name}")
    kept, broken = max(result.kept for result, _ in results), min(result.broken for result, _ in results)
    return replace(trial, kept=kept, broken=min(1.0, len(results) * broken))


def _trial(
    subject: Subject, name: str, compared: Compared, limit: float, finding: str, of_what: str = "samples"
) -> Trial:
    return Trial(
        name=name,
        device=subject.device,
        unit=compared.unit,
        measured=compared.drop,
        limit=limit,
        low=compared.low,
        high=compared.high,
        kept=compared.kept,
        broken=compared.broken,
        finding=finding,
        advice=_ADVICE,
        needed=compared.needed,
        of_what=of_what,
    )


def _moved(compared: Compared) -> str:
    if compared.drop == 0:
        return f"{compared.metric} is unchanged"
    better = compared.drop < 0
    verb = "improved" if better else "dropped" if direction(compared.metric) > 0 else "worsened"
    return f"{compared.metric} {verb} by {show(abs(compared.drop), compared.unit)}"


def _level(subject: Subject) -> float:
    return 1 - 2 * subject.budgets.alpha
