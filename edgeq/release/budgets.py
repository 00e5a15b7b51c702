"""The limits a release must keep. None switches a check off; a check that is on must be measured to pass."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from edgeq.errors import UsageError

_SHARES = ("agreement", "parity", "integer_share")


@dataclass(frozen=True)
class Budgets:
    """Limits on one device.

    Attributes:
        accuracy_drop: tolerated drop of the metric of the deployed model against the float model on the same device;
            a share for decisions (0.01 is one point), in the metric's own unit otherwise.
        baseline_drop: the same against the last release; None means as accuracy_drop.
        slice_drop: tolerated drop of every single slice.
        agreement: least share of samples that get the float model's decision.
        parity: least share of samples whose simulated and deployed decisions are equal; without decisions, least share
            of output numbers that differ by at most one step.
        parity_steps: largest difference of simulated and deployed outputs, in steps of the output.
        size_bytes: largest file.
        memory_bytes: what a fresh process gains at its peak by running it; of TFLite Micro the arena in use.
        latency_ms: longest median time of one inference.
        start_up_ms: longest time from loading to the first result.
        speed_up: least time of the float model over time of the quantized one, measured in turn in one process.
        slowdown: tolerated loss of speed-up against the last release (0.1 is a tenth).
        integer_share: least share of MACs in integer kernels.
        delivered: every line of the audit must be as asked.
        confidence: of every statistical check; the chances of a false pass and a false fail are at most 1 - confidence.
    """

    accuracy_drop: float | None = 0.01
    baseline_drop: float | None = None
    slice_drop: float | None = None
    agreement: float | None = None
    parity: float | None = 0.99
    parity_steps: float | None = None
    size_bytes: float | None = None
    memory_bytes: float | None = None
    latency_ms: float | None = None
    start_up_ms: float | None = None
    speed_up: float | None = None
    slowdown: float | None = 0.1
    integer_share: float | None = None
    delivered: bool = True
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name, limit in ((field.name, getattr(self, field.name)) for field in fields(self)):
            if limit is None or isinstance(limit, bool):
                continue
            if not math.isfinite(limit) or limit < 0:
                raise UsageError(f"budget {name} = {limit}: a limit is a finite number, not negative")
            if name in _SHARES and limit > 1:
                raise UsageError(f"budget {name} = {limit}: it is a share between 0 and 1 (99 % is 0.99)")
        if not 0.5 <= self.confidence < 1:
            raise UsageError(f"budget confidence = {self.confidence}: it lies between 0.5 and 1, for example 0.95")

    @property
    def alpha(self) -> float:
        """The level of every statistical check."""
        return 1 - self.confidence

    def with_limits(self, limits: Mapping[str, Any]) -> "Budgets":
        """These budgets with some replaced (a device's own limits, or command-line flags)."""
        return replace(self, **limits)


BUDGET_NAMES = tuple(field.name for field in fields(Budgets))
