"""What the gate answers: a check with its reason, and the judgement that follows from all checks.

The judgement is the worst of the checks: one failure fails the release, one undecided check leaves it undecided, and
an empty list of checks is a failure: what was never measured is never a pass.
"""

from dataclasses import dataclass
from enum import StrEnum

from edgeq.errors import ExitCode


class Outcome(StrEnum):
    """The three answers. INCONCLUSIVE means that the samples cannot tell."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"

    @property
    def exit_code(self) -> ExitCode:
        """The process's exit code for this answer."""
        return _EXIT_CODES[self]


_EXIT_CODES = {
    Outcome.PASS: ExitCode.PASSED,
    Outcome.FAIL: ExitCode.FAILED,
    Outcome.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
}


@dataclass(frozen=True)
class Check:
    """One question of the gate and its answer.

    Attributes:
        name: what was checked (accuracy_drop, size ...).
        measured: the number measured; None where it could not be measured.
        limit: the budget; None for a check that has no number.
        outcome: pass, fail or inconclusive.
        reason: one sentence: why this outcome, and what to do when it is not a pass.
        device: the profile it was measured on; "" for the release as a whole.
        unit: how to show the numbers: share, points, bytes, ms, ratio, steps or score.
        low, high: the measured number's confidence interval, where it has one.
    """

    name: str
    measured: float | None
    limit: float | None
    outcome: Outcome
    reason: str
    device: str = ""
    unit: str = "score"
    low: float | None = None
    high: float | None = None


#: Checks of what the model computes, not of what it costs or how it was delivered.
QUALITY = ("accuracy_drop", "baseline_drop", "slice_drop", "agreement")


@dataclass(frozen=True)
class Judgement:
    """All checks and the answer that follows from them."""

    checks: tuple[Check, ...]

    @property
    def outcome(self) -> Outcome:
        """FAIL if any check failed or there is none; else INCONCLUSIVE if any is undecided; else PASS."""
        outcomes = {check.outcome for check in self.checks}
        if not outcomes or Outcome.FAIL in outcomes:
            return Outcome.FAIL
        return Outcome.INCONCLUSIVE if Outcome.INCONCLUSIVE in outcomes else Outcome.PASS

    @property
    def quality(self) -> Outcome:
        """The answer of the checks of quality alone (all checks, if there is none): whether a diagnosis can help."""
        checks = tuple(check for check in self.checks if check.name in QUALITY)
        return Judgement(checks).outcome if checks else self.outcome

    @property
    def sentence(self) -> str:
        """The judgement in one line."""
        if not self.checks:
            return "FAIL: nothing was checked; set at least one budget"
        failed = [check.name for check in self.checks if check.outcome is Outcome.FAIL]
        undecided = [check.name for check in self.checks if check.outcome is Outcome.INCONCLUSIVE]
        if failed:
            return f"FAIL: {len(failed)} of {len(self.checks)} checks failed ({', '.join(dict.fromkeys(failed))})"
        if undecided:
            names = ", ".join(dict.fromkeys(undecided))
            return f"INCONCLUSIVE: {len(undecided)} of {len(self.checks)} checks cannot be decided ({names})"
        return f"PASS: all {len(self.checks)} checks passed"
