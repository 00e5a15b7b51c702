"""What was measured on a device: the frozen data between the devices, the gate and the report."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One model's results on the evaluation samples.

    Attributes:
        metric: name of the metric (top1, agreement, mse ...).
        scores: float64 (samples,), the metric's contribution of each sample: 1.0 or 0.0 for a decision, an error else.
        decisions: int64 (samples,), the class chosen for each sample, or None where the task has no decisions.
    """

    metric: str
    scores: npt.NDArray[np.float64]
    decisions: npt.NDArray[np.int64] | None = None

    @property
    def value(self) -> float:
        """The metric: the mean over samples."""
        return float(self.scores.mean())


@dataclass(frozen=True)
class DeviceInfo:
    """Where and by what something ran. Holds no host name, user name or path."""

    profile: str
    runtime: str
    version: str
    machine: str
    cpu: str
    cpu_features: tuple[str, ...]
    threads: int
    memory_bytes: int


@dataclass(frozen=True)
class Latency:
    """Time of one inference, in milliseconds."""

    median_ms: float
    p90_ms: float
    runs: int
    start_up_ms: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class LatencyComparison:
    """Two artefacts timed in turn in one process.

    Attributes:
        ratio: candidate over reference, with a bootstrap interval; under 1 the candidate is faster.
    """

    reference: Latency
    candidate: Latency
    ratio: Interval


@dataclass(frozen=True)
class Parity:
    """Simulated against deployed outputs, in steps of the output's grid.

    Attributes:
        compared: how many numbers were compared.
        unequal: how many of them differ.
        histogram: absolute difference in steps -> how many numbers.
        decisions_agree: share of samples (of tokens) with the same decision; None where the task has no decisions.
    """

    compared: int
    unequal: int
    histogram: dict[int, int]
    decisions_agree: float | None


@dataclass(frozen=True, eq=False)
class Measurement:
    """All that was measured of one artefact on one device."""

    device: DeviceInfo
    artifact: str
    float_on_target: Evaluation
    simulated: Evaluation
    deployed: Evaluation
    agreement: Interval | None
    parity: Parity
    latency: LatencyComparison | None
    size_bytes: int
    float_size_bytes: int
    integer_mac_share: float
    notes: tuple[str, ...] = field(default=())
