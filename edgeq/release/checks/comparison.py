"""Two evaluations of the same samples: the drop, its interval and p-values, by the test that fits the scores."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeq.measurement import Evaluation
from edgeq.release.statistics.bootstrap import FEWEST_SAMPLES, mean_difference
from edgeq.release.statistics.paired import PairedCounts, count_pairs, drop_broken, drop_interval, drop_kept, mcnemar
from edgeq.release.statistics.power import mean_samples_needed, samples_needed

_LOWER_IS_BETTER = frozenset({"mse", "mae", "rmse", "perplexity", "loss", "error"})


@dataclass(frozen=True, eq=False)
class Compared:
    """The outcome of comparing a candidate with a reference.

    Attributes:
        metric: its name.
        samples: how many pairs.
        drop: how much worse the candidate is (negative: better), a share for decisions.
        low, high: its interval at level 1 - 2 alpha.
        kept, broken: p-values as in Trial.
        unit: points for decisions, score otherwise.
        remark: what else the numbers say.
        needed: as in Trial.
    """

    metric: str
    samples: int
    drop: float
    low: float
    high: float
    kept: float
    broken: float
    unit: str
    remark: str
    needed: Callable[[], int | None]


def direction(metric: str) -> int:
    """1 if more of the metric is better, -1 if less is. A user's own metric counts as better when it is more."""
    return -1 if metric.lower() in _LOWER_IS_BETTER else 1


def problem(reference: Evaluation, candidate: Evaluation, samples: int) -> str | None:
    """Why two evaluations cannot be compared, or None if they can."""
    for evaluation in (reference, candidate):
        size = evaluation.scores.size
        if size == 0:
            return f"no {evaluation.metric} was measured: evaluate on at least one sample"
        if size != samples:
            return f"{size:,} scores for {samples:,} evaluation samples: measure all of them"
        bad = int(np.count_nonzero(~np.isfinite(evaluation.scores)))
        if bad:
            return f"{bad:,} of {size:,} scores of {evaluation.metric} are not finite: the model gives NaN or infinity"
    if reference.metric != candidate.metric:
        return f"{reference.metric} cannot be compared with {candidate.metric}: use one metric"
    return None


def compare(reference: Evaluation, candidate: Evaluation, limit: float, alpha: float) -> Compared | str:
    """Compare by the exact paired test if all scores are 0 or 1, by the paired bootstrap otherwise.

    Returns:
        The comparison, or the reason why so few samples cannot give one.
    """
    if is_decision(reference.scores) and is_decision(candidate.scores):
        return _decisions(reference, candidate, limit, alpha)
    samples = reference.scores.size
    if samples < FEWEST_SAMPLES:
        return f"{samples} samples are too few for a bootstrap: at least {FEWEST_SAMPLES} are needed"
    difference = mean_difference(direction(reference.metric) * (reference.scores - candidate.scores))
    low, high = difference.interval(1 - 2 * alpha)
    return Compared(
        metric=reference.metric,
        samples=samples,
        drop=difference.value,
        low=low,
        high=high,
        kept=difference.under(limit),
        broken=difference.over(limit),
        unit="score",
        remark="",
        needed=lambda: mean_samples_needed(
            float(difference.differences.std(ddof=1)), abs(limit - difference.value), alpha
        ),
    )


def _decisions(reference: Evaluation, candidate: Evaluation, limit: float, alpha: float) -> Compared:
    counts = count_pairs(reference.scores, candidate.scores)
    low, high = drop_interval(counts, 1 - 2 * alpha)
    return Compared(
        metric=reference.metric,
        samples=counts.samples,
        drop=counts.drop,
        low=low,
        high=high,
        kept=drop_kept(counts, limit),
        broken=drop_broken(counts, limit),
        unit="points",
        remark=f", {counts.lost:,} lost and {counts.gained:,} gained of {counts.samples:,}, "
        f"exact McNemar p = {mcnemar(counts):.2g}",
        needed=lambda: _needed(counts, limit, alpha),
    )


def _needed(counts: PairedCounts, limit: float, alpha: float) -> int | None:
    """Samples that decide if the drop and the changed decisions stay as seen (one more, so that none seen is not none).

    An observed drop under the limit asks to show that the limit is kept, one over it that it is broken.
    """
    disagreement = (counts.lost + counts.gained + 1) / (counts.samples + 1)
    if counts.drop < limit:
        return samples_needed(disagreement, limit, alpha, drop=max(counts.drop, 0.0))
    return samples_needed(disagreement, -limit, alpha, drop=-counts.drop)


def is_decision(scores: npt.NDArray[np.float64]) -> bool:
    """Whether all scores are 0 or 1, so that each is a decision that is right or wrong."""
    return bool(((scores == 0) | (scores == 1)).all())
