"""A check that samples decide: two p-values, and what to say of each outcome."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeq.release.outcome import Check, Outcome
from edgeq.release.statistics.multiplicity import holm


@dataclass(frozen=True, eq=False)
class Trial:
    """A limit under test.

    Attributes:
        name, device, unit, measured, limit, low, high: as in Check.
        kept: p-value of "the limit is broken"; small means that it is shown to be kept.
        broken: p-value of "the limit is kept"; small means that it is shown to be broken.
        finding: what was seen, without the outcome.
        advice: what to do when it fails.
        needed: how many samples would decide, or None if no number would; called only when it is undecided.
        of_what: which samples are meant ("samples", "samples of class cat").
    """

    name: str
    device: str
    unit: str
    measured: float
    limit: float
    low: float
    high: float
    kept: float
    broken: float
    finding: str
    advice: str
    needed: Callable[[], int | None]
    of_what: str = "samples"


def decide(trials: Sequence[Trial], alpha: Callable[[Trial], float]) -> list[Check]:
    """Judge trials together: each passes at its own level, failing is corrected for their number (Holm)."""
    corrected = holm([trial.broken for trial in trials])
    return [_check(trial, broken, alpha(trial)) for trial, broken in zip(trials, corrected, strict=True)]


def _check(trial: Trial, broken: float, alpha: float) -> Check:
    if trial.kept <= alpha:
        outcome, reason = Outcome.PASS, f"{trial.finding}; shown to keep the limit ({_p(trial.kept)})"
    elif broken <= alpha:
        outcome = Outcome.FAIL
        reason = f"{trial.finding}; shown to break the limit ({_p(broken)}): {trial.advice}"
    else:
        outcome, reason = Outcome.INCONCLUSIVE, f"{trial.finding}; {_undecided(trial)}"
    return Check(
        trial.name,
        trial.measured,
        trial.limit,
        outcome,
        reason,
        trial.device,
        trial.unit,
        trial.low,
        trial.high,
    )


def _undecided(trial: Trial) -> str:
    needed = trial.needed()
    if needed is None:
        return f"no number of {trial.of_what} within reach would tell; raise the limit or improve the model"
    return f"about {needed:,} {trial.of_what} are needed to tell, if all else stays as seen"


def _p(value: float) -> str:
    return "p ≤ 0.001" if value <= 1e-3 else f"p = {value:.2g}"
