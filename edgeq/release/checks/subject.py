"""What one check looks at: one measurement on one device, its budgets, and the same device in the last release."""

from dataclasses import dataclass

from edgeq.measurement import Measurement
from edgeq.release.budgets import Budgets
from edgeq.release.outcome import Check, Outcome
from edgeq.release.release import Release


@dataclass(frozen=True, eq=False)
class Subject:
    """One device of a release.

    Attributes:
        release: the release that is judged.
        measurement: its measurement on this device.
        budgets: the limits on this device.
        baseline: the last release, or None for a first release.
    """

    release: Release
    measurement: Measurement
    budgets: Budgets
    baseline: Release | None = None

    @property
    def device(self) -> str:
        """The device's profile."""
        return self.measurement.device.profile

    def missing(self, name: str, limit: float | None, reason: str, unit: str = "score") -> Check:
        """A failed check: something that it needs is not there."""
        return Check(name, None, limit, Outcome.FAIL, reason, self.device, unit)

    def compared(self, name: str, measured: float, limit: float, kept: bool, reason: str, unit: str) -> Check:
        """A check that a plain comparison decides."""
        return Check(name, measured, limit, Outcome.PASS if kept else Outcome.FAIL, reason, self.device, unit)
