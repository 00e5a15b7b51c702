"""The numbers that head every report: the metric and the drop, each with its confidence interval."""

import numpy as np
from scipy import stats

from edgeq.measurement import Evaluation, Interval, Measurement
from edgeq.release.checks.comparison import compare, problem
from edgeq.release.statistics.shares import clopper_pearson


def value_interval(evaluation: Evaluation, level: float = 0.95) -> Interval | None:
    """The metric with its interval: Clopper-Pearson for decisions, Student's t otherwise; None if it has no number."""
    scores = evaluation.scores
    if scores.size == 0 or not np.isfinite(scores).all():
        return None
    value = evaluation.value
    if ((scores == 0) | (scores == 1)).all():
        return Interval(value, *clopper_pearson(int(scores.sum()), scores.size, level), level)
    if scores.size < 2:
        return None
    reach = float(stats.t.ppf((1 + level) / 2, scores.size - 1) * scores.std(ddof=1) / scores.size**0.5)
    return Interval(value, value - reach, value + reach, level)


def drop_of(measurement: Measurement, level: float = 0.90) -> Interval | None:
    """How much worse the deployed model is than the float model on the device; None if that cannot be said.

    The level is that of two one-sided tests at 5 %, so that the interval and the gate's default verdict agree.
    """
    reference, deployed = measurement.float_on_target, measurement.deployed
    if problem(reference, deployed, reference.scores.size) is not None:
        return None
    compared = compare(reference, deployed, 0.0, (1 - level) / 2)
    return None if isinstance(compared, str) else Interval(compared.drop, compared.low, compared.high, level)
