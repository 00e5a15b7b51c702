"""The gate's checks, each a function of one subject, in the order of the report.

A check gives `Check` where a plain comparison decides, or `Trial` where samples do; it gives nothing when its budget is
off. What it needs and does not find is a failed check that says what is missing.
"""

from collections.abc import Callable, Iterator

from edgeq.release.checks.accuracy import accuracy_drop, agreement, baseline_drop, slice_drop
from edgeq.release.checks.delivery import delivered, integer_share
from edgeq.release.checks.parity import parity, parity_steps
from edgeq.release.checks.resources import latency, memory, size, slowdown, speed_up, start_up
from edgeq.release.checks.subject import Subject
from edgeq.release.checks.trial import Trial
from edgeq.release.outcome import Check

CHECKS: tuple[Callable[[Subject], Iterator[Check | Trial]], ...] = (
    accuracy_drop,
    baseline_drop,
    slice_drop,
    agreement,
    parity,
    parity_steps,
    delivered,
    integer_share,
    size,
    memory,
    latency,
    start_up,
    speed_up,
    slowdown,
)

__all__ = ["CHECKS", "Subject", "Trial"]
