"""The gate: a release, its budgets and the last release in; PASS, FAIL or INCONCLUSIVE with every reason out.

Error rates: with limits that are truly broken by any amount, the chance of PASS is at most 1 - confidence; with all
limits truly kept, the chance of FAIL is at most 1 - confidence. What samples cannot tell is INCONCLUSIVE, with the
number of samples that would. What is missing, stale or not a number fails.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeq.release.budgets import Budgets
from edgeq.release.checks import CHECKS, Subject, Trial
from edgeq.release.checks.trial import decide
from edgeq.release.hashing import sha256_of_file
from edgeq.release.outcome import Check, Judgement, Outcome
from edgeq.release.release import Release


def gate(
    release: Release,
    budgets: Budgets | None = None,
    *,
    device_budgets: Mapping[str, Mapping[str, Any]] | None = None,
    overrides: Mapping[str, Any] | None = None,
    baseline: Release | None = None,
    folder: Path | None = None,
) -> Judgement:
    """Judge a release.

    Args:
        release: what was built and measured.
        budgets: limits for every device; the defaults of `Budgets` if None.
        device_budgets: profile -> limits that replace, on that device, those of `budgets` and of its profile.
        overrides: limits that replace all others, on every device.
        baseline: the last release.
        folder: where the files lie; given, each must still be the one that was measured.
    """
    general = (budgets or Budgets()).with_limits(overrides or {})
    own_limits, stated = device_budgets or {}, release.device_limits
    limits = {
        profile: _stricter(general, stated.get(profile, {}))
        .with_limits(own_limits.get(profile, {}))
        .with_limits(overrides or {})
        for profile in dict.fromkeys((*stated, *own_limits))
    }
    checks = list(_complete(release, limits)) + list(_fresh(release, folder))
    findings: list[Check | Trial] = []
    for measurement in release.measurements:
        own = limits.get(measurement.device.profile, general)
        subject = Subject(release, measurement, own, baseline)
        findings += [finding for check in CHECKS for finding in check(subject)]
    trials = [finding for finding in findings if isinstance(finding, Trial)]
    decided = iter(decide(trials, lambda trial: limits.get(trial.device, general).alpha))
    checks += [next(decided) if isinstance(finding, Trial) else finding for finding in findings]
    return Judgement(tuple(checks))


def _stricter(general: Budgets, stated: Mapping[str, float]) -> Budgets:
    """The general limits with what a device profile allows: of two limits on a cost the lower one."""
    return general.with_limits(
        {
            name: limit if (known := getattr(general, name)) is None else min(known, limit)
            for name, limit in stated.items()
        }
    )


def _complete(release: Release, limits: Mapping[str, Budgets]) -> Iterator[Check]:
    """Every device that was asked for was measured, once, and every file on some device."""
    measured = [measurement.device.profile for measurement in release.measurements]
    if not measured and not release.devices:
        yield _failed("measured", "no device was asked for: nothing was measured")
    for profile in dict.fromkeys((*release.devices, *limits)):
        if profile not in measured:
            yield _failed("measured", f"{profile} was asked for and not measured: see the log for its error", profile)
    for profile in dict.fromkeys(measured):
        if measured.count(profile) > 1:
            yield _failed("measured", f"{profile} was measured twice: give each file its own profile", profile)
    names = {measurement.artifact for measurement in release.measurements}
    for artifact in release.artifacts:
        if (artifact.part_of or artifact.name) not in names:
            yield _failed("measured", f"{artifact.name} ran on no device: validate it, or leave it out")
    for name in sorted(names - {artifact.name for artifact in release.artifacts}):
        yield _failed("measured", f"{name} was measured but is not part of the release: build the release again")


def _fresh(release: Release, folder: Path | None) -> Iterator[Check]:
    """The files are the ones that were measured."""
    if folder is None:
        return
    for artifact in release.artifacts:
        path = folder / artifact.name
        if not path.is_file():
            yield _failed("fresh", f"{artifact.name} is missing from the release folder: build the release again")
        elif sha256_of_file(path) != artifact.sha256:
            yield _failed("fresh", f"{artifact.name} is not the file that was measured: build the release again")


def _failed(name: str, reason: str, device: str = "") -> Check:
    return Check(name, None, None, Outcome.FAIL, reason, device)
