"""Is what was simulated what runs? Measured on the evaluation samples, not inferred from them."""

from collections.abc import Iterator

from edgeq.measurement import Parity
from edgeq.release.checks.subject import Subject
from edgeq.release.outcome import Check
from edgeq.release.show import show

_ADVICE = "the runtime computes otherwise than the simulation: see the parity section of the report"


def parity(subject: Subject) -> Iterator[Check]:
    """Share of samples with equal simulated and deployed decisions, or of numbers within one step."""
    limit, found = subject.budgets.parity, subject.measurement.parity
    if limit is None:
        return
    share = parity_share(found)
    if share is None:
        yield subject.missing("parity", limit, "no output was compared with the simulation: validate again", "share")
        return
    what = "decisions are" if found.decisions_agree is not None else "output numbers are within one step of"
    reason = (
        f"{show(share, 'share')} of {what} the simulation's, {found.unequal:,} of {found.compared:,} numbers differ"
    )
    yield subject.compared(
        "parity", share, limit, share >= limit, reason if share >= limit else f"{reason}: {_ADVICE}", "share"
    )


def parity_steps(subject: Subject) -> Iterator[Check]:
    """Largest difference of simulated and deployed outputs."""
    limit, found = subject.budgets.parity_steps, subject.measurement.parity
    if limit is None:
        return
    if not found.compared or not found.histogram:
        reason = "no output was compared with the simulation: validate again"
        yield subject.missing("parity_steps", limit, reason, "steps")
        return
    worst = max(steps for steps, numbers in found.histogram.items() if numbers)
    reason = f"outputs differ by at most {show(worst, 'steps')}, {found.unequal:,} of {found.compared:,} numbers differ"
    yield subject.compared(
        "parity_steps", worst, limit, worst <= limit, reason if worst <= limit else f"{reason}: {_ADVICE}", "steps"
    )


def parity_share(found: Parity) -> float | None:
    """The share that the parity budget limits; None if nothing was compared."""
    if found.compared < 1:
        return None
    if found.decisions_agree is not None:
        return found.decisions_agree if 0 <= found.decisions_agree <= 1 else None
    return sum(numbers for steps, numbers in found.histogram.items() if steps <= 1) / found.compared
