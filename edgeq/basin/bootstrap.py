"""Percentile bootstrap intervals over the probe samples, shared by every quantity that is a function of means."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgeq.measurement import Interval

RESAMPLES = 600
Array = npt.NDArray[np.float64]


def interval(
    rows: Array, statistic: Callable[[Array], Array], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """An interval of ``statistic`` of the samples' means.

    Args:
        rows: float64 (quantities, samples), paired.
        statistic: float64 (quantities, resamples) of means -> (resamples,).
        level: confidence.
        resamples: how many.
        seed: of the resampling.
    """
    count = rows.shape[1]
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples).T / count
    with np.errstate(all="ignore"):
        estimate = float(statistic(rows.mean(1, keepdims=True))[0])
        drawn = statistic(rows @ weights)
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return Interval(estimate, float("nan"), float("nan"), level)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level)
