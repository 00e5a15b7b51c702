"""Size, memory and time.

Absolute times only where the user sets a limit; speed is judged as the ratio to the float model, both timed in turn in
one process, by its confidence interval.
"""

import math
from collections.abc import Iterator

from edgeq.measurement import Interval, Measurement
from edgeq.release.checks.subject import Subject
from edgeq.release.outcome import Check, Outcome
from edgeq.release.show import show, show_interval

_NO_LATENCY = "latency was not measured: profile the release on this device, or remove the budget"


def size(subject: Subject) -> Iterator[Check]:
    """Size of the file."""
    yield from _at_most(subject, "size", subject.measurement.size_bytes, subject.budgets.size_bytes, "bytes")


def memory(subject: Subject) -> Iterator[Check]:
    """What a fresh process gains at its peak by running it."""
    latency_ = subject.measurement.latency
    peak = None if latency_ is None else latency_.candidate.peak_memory_bytes
    yield from _at_most(subject, "memory", peak, subject.budgets.memory_bytes, "bytes")


def latency(subject: Subject) -> Iterator[Check]:
    """Median time of one inference."""
    latency_ = subject.measurement.latency
    median = None if latency_ is None else latency_.candidate.median_ms
    yield from _at_most(subject, "latency", median, subject.budgets.latency_ms, "ms")


def start_up(subject: Subject) -> Iterator[Check]:
    """Time from loading to the first result."""
    latency_ = subject.measurement.latency
    first = None if latency_ is None else latency_.candidate.start_up_ms
    yield from _at_most(subject, "start_up", first, subject.budgets.start_up_ms, "ms")


def speed_up(subject: Subject) -> Iterator[Check]:
    """Time of the float model over time of the quantized one."""
    limit = subject.budgets.speed_up
    if limit is None:
        return
    found = speed(subject.measurement)
    if found is None:
        yield subject.missing("speed_up", limit, _NO_LATENCY, "ratio")
        return
    kept, broken = found.low >= limit, found.high < limit
    reason = (
        f"{show(found.estimate, 'ratio')} the speed of the float model "
        f"({show_interval(found.low, found.high, 'ratio')})"
    )
    if broken and found.high < 1:
        reason += ": integers are slower than float here, see latency by op"
    yield _ranged(subject, "speed_up", found, limit, kept, broken, reason)


def slowdown(subject: Subject) -> Iterator[Check]:
    """Speed-up over float, against the last release's."""
    limit = subject.budgets.slowdown
    last = None if subject.baseline is None else subject.baseline.measurement(subject.device)
    if limit is None or last is None or last.latency is None:
        return
    before, now = speed(last), speed(subject.measurement)
    if before is None or now is None:
        yield subject.missing("slowdown", limit, f"{_NO_LATENCY} (the last release has it)", "percentage")
        return
    kept = quotient(now, before)
    lost = Interval(1 - kept.estimate, 1 - kept.high, 1 - kept.low, now.level)
    reason = (
        f"{show(now.estimate, 'ratio')} the float model's speed, {show(before.estimate, 'ratio')} in the last release"
    )
    yield _ranged(subject, "slowdown", lost, limit, lost.high <= limit, lost.low > limit, reason, "percentage")


def quotient(upper: Interval, lower: Interval) -> Interval:
    """Of two independent positive measurements, with the interval that follows from theirs.

    The distances of the ends from the estimates add up as squares, on the logarithm: the method of variance estimates
    recovery (Zou and Donner, "Construction of confidence limits about effect measures", Statistics in Medicine, 2008).
    """
    up, down = ([math.log(x) for x in (found.low, found.estimate, found.high)] for found in (upper, lower))
    low = math.hypot(up[1] - up[0], down[2] - down[1])
    high = math.hypot(up[2] - up[1], down[1] - down[0])
    middle = up[1] - down[1]
    return Interval(math.exp(middle), math.exp(middle - low), math.exp(middle + high), upper.level)


def speed(measurement: Measurement) -> Interval | None:
    """Speed-up over float with its interval; None if it was not measured."""
    if measurement.latency is None:
        return None
    ratio = measurement.latency.ratio
    if not all(math.isfinite(value) and value > 0 for value in (ratio.low, ratio.estimate, ratio.high)):
        return None
    return Interval(1 / ratio.estimate, 1 / ratio.high, 1 / ratio.low, ratio.level)


def _at_most(subject: Subject, name: str, measured: float | None, limit: float | None, unit: str) -> Iterator[Check]:
    if limit is None:
        return
    if measured is None or not math.isfinite(measured) or measured <= 0:
        yield subject.missing(name, limit, f"{name} was not measured: measure it, or remove the budget", unit)
        return
    over = measured - limit
    reason = f"{show(measured, unit)} of {show(limit, unit)}" + (f": {show(over, unit)} too much" if over > 0 else "")
    yield subject.compared(name, measured, limit, over <= 0, reason, unit)


def _ranged(
    subject: Subject,
    name: str,
    found: Interval,
    limit: float,
    kept: bool,
    broken: bool,
    reason: str,
    unit: str = "ratio",
) -> Check:
    outcome = Outcome.PASS if kept else Outcome.FAIL if broken else Outcome.INCONCLUSIVE
    if outcome is Outcome.INCONCLUSIVE:
        reason += "; the limit lies inside the interval: time more runs on a quieter machine"
    return Check(name, found.estimate, limit, outcome, reason, subject.device, unit, found.low, found.high)
