"""The judgement as Markdown, for the page of a merge request or a job."""

import re

from edgeq.measurement import Measurement
from edgeq.release.checks.accuracy import agreeing
from edgeq.release.checks.comparison import is_decision
from edgeq.release.checks.resources import speed
from edgeq.release.numbers import drop_of, value_interval
from edgeq.release.outcome import Check, Judgement, Outcome
from edgeq.release.release import Release
from edgeq.release.show import show, show_interval

_MARKS = {Outcome.PASS: "✅ pass", Outcome.FAIL: "❌ FAIL", Outcome.INCONCLUSIVE: "⚠️ inconclusive"}
_ACTIVE = re.compile(r"([\\`*_{}\[\]()#+!|<>~@$&])")


def summary(release: Release, judgement: Judgement) -> str:
    """Markdown: the verdict, the three numbers of each device, every check with its reason, how to reproduce."""
    lines = [
        f"## edgeq: {escape(release.model)} ({escape(release.bits)})",
        "",
        f"**{escape(judgement.sentence)}**",
        "",
        "| device | float on target | simulated | deployed | drop | agreement | speed | size |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(measurement) for measurement in release.measurements]
    lines += ["", "| check | outcome | measured | limit | reason |", "|---|---|---|---|---|"]
    lines += [_check(check) for check in judgement.checks]
    if release.notes:
        lines += ["", *(f"- {escape(note)}" for note in release.notes)]
    lines += ["", "Reproduce:", "", *(f"    {line}" for line in release.command.splitlines()), ""]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return _ACTIVE.sub(r"\\\1", " ".join(text.split()))


def _row(measurement: Measurement) -> str:
    unit = "metric" if is_decision(measurement.deployed.scores) else "score"
    values = [
        show(evaluation.value if evaluation.scores.size else None, unit)
        for evaluation in (measurement.float_on_target, measurement.simulated, measurement.deployed)
    ]
    deployed = value_interval(measurement.deployed)
    if deployed is not None:
        values[2] += f" ({show_interval(deployed.low, deployed.high, unit)})"
    drop, counts, faster = drop_of(measurement), agreeing(measurement), speed(measurement)
    drop_unit = "points" if unit == "metric" else "score"
    cells = [
        escape(measurement.device.profile),
        *values,
        "—" if drop is None else f"{show(drop.estimate, drop_unit)} ({show_interval(drop.low, drop.high, drop_unit)})",
        "—" if counts is None else show(counts[0] / counts[1], "share"),
        "—"
        if faster is None
        else f"{show(faster.estimate, 'ratio')} ({show_interval(faster.low, faster.high, 'ratio')})",
        f"{show(measurement.size_bytes, 'bytes')} of {show(measurement.float_size_bytes, 'bytes')}",
    ]
    return f"| {' | '.join(cells)} |"


def _check(check: Check) -> str:
    where = f"{check.name} ({check.device})" if check.device else check.name
    cells = [
        escape(where),
        _MARKS[check.outcome],
        show(check.measured, check.unit),
        show(check.limit, check.unit),
        escape(check.reason),
    ]
    return f"| {' | '.join(cells)} |"
