"""Latency from raw interleaved timings: medians, and the ratio with an interval that covers what repeats would show.

The two artefacts take turns within one process (A B A B), so that clock changes and other load hit both; and the whole
is repeated in several fresh processes, because where memory happens to lie makes one process differ from the next by
more than its own runs show. The interval is a two-level bootstrap: processes are drawn with replacement, then blocks of
consecutive pairs within each (moving-block bootstrap, Künsch 1989: neighbouring runs are correlated), and the ratio of
the medians is taken over the pooled draw.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeq.errors import DeviceError
from edgeq.measurement import Interval

Nanoseconds = npt.NDArray[np.int64]


def median_and_p90(nanoseconds: Nanoseconds) -> tuple[float, float]:
    """Median and 90th percentile in milliseconds."""
    median, p90 = np.percentile(nanoseconds, [50, 90]) / 1e6
    return float(median), float(p90)


def ratio(rounds: Sequence[Nanoseconds], *, seed: int, resamples: int = 1000, level: float = 0.95) -> Interval:
    """Candidate's median over the reference's, with its interval.

    Args:
        rounds: one array a process, int64 (pairs, 2): reference and candidate in nanoseconds; the same number of pairs.
        seed: of the bootstrap.
        resamples: draws of the bootstrap.
        level: the interval's confidence level.

    Raises:
        DeviceError: there is nothing to compare, or a time is not positive.
    """
    times = np.stack(rounds).astype(np.float64) if rounds else np.empty((0, 0, 2))
    if times.size == 0 or (times <= 0).any():
        raise DeviceError("latency: no timings, or a time that is not positive; the device's clock cannot be trusted")
    draws = _resampled(times, np.random.default_rng(seed), resamples)
    medians = np.median(draws, axis=1)
    low, high = np.quantile(medians[:, 1] / medians[:, 0], [(1 - level) / 2, (1 + level) / 2])
    reference, candidate = np.median(times.reshape(-1, 2), axis=0)
    estimate = float(candidate / reference)
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate), level)


def _resampled(times: npt.NDArray[np.float64], rng: np.random.Generator, resamples: int) -> npt.NDArray[np.float64]:
    """Draws (resamples, processes * pairs, 2) of the two-level bootstrap."""
    processes, pairs, _ = times.shape
    block = max(1, round(pairs ** (1 / 3)))
    blocks = -(-pairs // block)
    drawn = rng.integers(processes, size=(resamples, processes, 1))
    starts = rng.integers(pairs, size=(resamples, processes, blocks))
    # Blocks wrap around, so that every pair is drawn equally often.
    within = ((starts[..., None] + np.arange(block)) % pairs).reshape(resamples, processes, -1)[..., :pairs]
    result: npt.NDArray[np.float64] = times[drawn, within].reshape(resamples, -1, 2)
    return result
