"""Paired decisions of two models: is the drop in accuracy under, or over, a tolerated drop?

Of n samples, b are right with the reference and wrong with the candidate (lost), c the other way round (gained). The
drop is (b - c) / n. With p_b, p_c their probabilities, write psi = p_b + p_c (how often the two models disagree) and
Delta = p_b - p_c (the true drop). The two questions, each with its own p-value:

    kept     H0: Delta >= delta, rejected when the observed drop is small  -> the limit delta is shown to be kept
    broken   H0: Delta <= delta, rejected when the observed drop is large  -> the limit delta is shown to be broken

1. Statistic: T = (b - c - n delta) / sqrt(max(b + c, n |delta|, 1) - n delta^2), the score statistic with the null
   variance bounded below by what the null itself demands (psi >= |delta|).
2. For a given psi, P(T <= t) at the border Delta = delta is a sum over m = b + c of Binomial(m; n, psi) times a
   binomial tail of b given m, because T grows with b when m is fixed. It is also the largest over the whole null, for
   b given m grows stochastically with Delta.
3. psi is unknown: take the largest such probability over a 1 - beta confidence interval of psi, and add beta
   (Berger and Boos, "P values maximized over a confidence set for the nuisance parameter", JASA 89, 1994). The test is
   valid at every sample size, unlike the usual normal approximations. Ours: the statistic, and beta = 0.001.

With delta = 0 this is the one-sided unconditional form of McNemar's test; `mcnemar` is the exact conditional one.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

_BETA = 1e-3
_GRID = 33


@dataclass(frozen=True)
class PairedCounts:
    """Outcomes of the same samples under two models.

    Attributes:
        samples: how many samples.
        lost: right with the reference, wrong with the candidate.
        gained: wrong with the reference, right with the candidate.
    """

    samples: int
    lost: int
    gained: int

    def __post_init__(self) -> None:
        if self.samples < 1 or min(self.lost, self.gained) < 0 or self.lost + self.gained > self.samples:
            raise ValueError(f"impossible counts: {self.lost} lost and {self.gained} gained of {self.samples}")

    @property
    def drop(self) -> float:
        """The observed drop, as a share of the samples."""
        return (self.lost - self.gained) / self.samples

    @property
    def disagreement(self) -> float:
        """Share of samples that one model has right and the other wrong."""
        return (self.lost + self.gained) / self.samples


def count_pairs(reference: npt.NDArray[np.float64], candidate: npt.NDArray[np.float64]) -> PairedCounts:
    """Count lost and gained samples from scores of 0 and 1, both of shape (samples,)."""
    return PairedCounts(
        samples=reference.size,
        lost=int(np.count_nonzero(reference > candidate)),
        gained=int(np.count_nonzero(candidate > reference)),
    )


def mcnemar(counts: PairedCounts) -> float:
    """Exact two-sided McNemar p-value: could lost and gained samples be equally likely?"""
    discordant = counts.lost + counts.gained
    return 1.0 if discordant == 0 else float(stats.binomtest(counts.lost, discordant, 0.5).pvalue)


def drop_kept(counts: PairedCounts, limit: float) -> float:
    """P-value of the hypothesis that the true drop is at or over the limit: small means the limit is kept."""
    return _p_value(counts.samples, counts.lost, counts.gained, limit)


def drop_broken(counts: PairedCounts, limit: float) -> float:
    """P-value of the hypothesis that the true drop is at or under the limit: small means the limit is broken."""
    return _p_value(counts.samples, counts.gained, counts.lost, -limit)


def drop_interval(counts: PairedCounts, level: float) -> tuple[float, float]:
    """Confidence interval of the drop, by inverting the two tests, each at (1 - level) / 2.

    At level 1 - 2 alpha it agrees with tests at level alpha: kept exactly if the limit is over the upper end.
    """
    alpha = (1 - level) / 2
    high = _invert(counts.samples, counts.lost, counts.gained, alpha)
    low = -_invert(counts.samples, counts.gained, counts.lost, alpha)
    return min(low, counts.drop), max(high, counts.drop)


def _invert(samples: int, lost: int, gained: int, alpha: float) -> float:
    """The smallest limit that is shown to be kept at level alpha; 1 if there is none."""
    observed = (lost - gained) / samples
    step = max(math.sqrt(lost + gained), 2.0) / samples
    kept = min(1.0, observed + 2 * step)
    while kept < 1 and _p_value(samples, lost, gained, kept) > alpha:
        kept = min(1.0, kept + 2 * step)
    open_ = max(observed, kept - 2 * step)
    while kept - open_ > step / 100:
        middle = (kept + open_) / 2
        if _p_value(samples, lost, gained, middle) <= alpha:
            kept = middle
        else:
            open_ = middle
    return kept


def _p_value(samples: int, lost: int, gained: int, limit: float) -> float:
    if not -1 < limit < 1:
        return 1.0 if limit <= -1 else 0.0  # the hypothesis drop >= limit is empty from 1 on, and certain up to -1
    discordant = lost + gained
    statistic = (lost - gained - samples * limit) / float(deviation(samples, np.float64(discordant), limit))
    return p_value_of(samples, discordant, limit, statistic)


def p_value_of(samples: int, discordant: int, limit: float, statistic: float, grid: int = _GRID) -> float:
    """P-value of "the drop is at or over the limit" for a value of T and the number of samples that disagree.

    The largest probability is sought on a geometric grid of psi with that many points.
    """
    low = float(special.betaincinv(discordant, samples - discordant + 1, _BETA / 2)) if discordant else 0.0
    high = (
        float(special.betaincinv(discordant + 1, samples - discordant, 1 - _BETA / 2)) if discordant < samples else 1.0
    )
    low = max(low, limit, 1e-9)
    if high < low:
        return _BETA  # every psi that the hypothesis allows lies outside the confidence interval
    rates = np.geomspace(low, high, grid)
    return min(1.0, float(_tail(samples, rates, limit, statistic).max()) + _BETA)


def binomial_at_most(
    hits: npt.NDArray[np.float64], trials: npt.NDArray[np.float64], rate: npt.NDArray[np.float64] | float
) -> npt.NDArray[np.float64]:
    """P(Binomial(trials, rate) <= hits), also for hits outside 0 .. trials; scipy.stats.binom.cdf without its cost."""
    inside = special.betainc(np.maximum(trials - hits, 1e-300), np.maximum(hits, 0) + 1, 1 - rate)
    result: npt.NDArray[np.float64] = np.where(hits < 0, 0.0, np.where(hits >= trials, 1.0, inside))
    return result


def deviation(samples: int, discordant: npt.NDArray[np.float64] | np.float64, limit: float) -> npt.NDArray[np.float64]:
    """The denominator of T."""
    variance = np.maximum(discordant, max(samples * abs(limit), 1.0)) - samples * limit**2
    result: npt.NDArray[np.float64] = np.sqrt(np.maximum(variance, 1e-12))
    return result


def _tail(samples: int, rates: npt.NDArray[np.float64], limit: float, statistic: float) -> npt.NDArray[np.float64]:
    """P(T <= statistic) when the true drop is the limit, for each rate psi of disagreement; shape (rates,)."""
    spread = 9 * np.sqrt(samples * rates[-1]) + 10  # what lies further out weighs less than 1e-15
    first = max(0, int(samples * rates[0] - 9 * np.sqrt(samples * rates[0]) - 10))
    discordant = np.arange(first, min(samples, int(samples * rates[-1] + spread)) + 1, dtype=np.float64)
    difference = samples * limit + statistic * deviation(samples, discordant, limit)
    most_lost = np.floor((discordant + difference) / 2 + 1e-9)
    share_lost = (1 + np.maximum(limit, -rates) / rates) / 2
    given = binomial_at_most(most_lost, discordant, np.clip(share_lost, 0, 1)[:, None])
    log_weight = (
        special.gammaln(samples + 1) - special.gammaln(discordant + 1) - special.gammaln(samples - discordant + 1)
    )
    log_weight = log_weight + discordant * np.log(rates)[:, None]
    log_weight = log_weight + special.xlog1py(samples - discordant, -rates[:, None])
    result: npt.NDArray[np.float64] = (np.exp(log_weight) * given).sum(axis=1)
    return result
