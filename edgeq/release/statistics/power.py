"""How many samples are needed to tell: the power of the paired test, and the sample size that reaches it.

The power at n samples is P(the limit is shown to be kept | psi, Delta), summed over the number m of samples that
disagree: for each m the test passes up to a critical value of T, which is found by bisection at a few m and
interpolated between them, for it varies slowly. The sample size starts from the normal approximation

    n = (z_alpha sqrt(psi - delta^2) + z_power sqrt(psi - Delta^2))^2 / (delta - Delta)^2

and is corrected until the power of the test itself is reached.
"""

import math

import numpy as np
from scipy import optimize, stats

from edgeq.release.statistics.paired import binomial_at_most, deviation, p_value_of

MOST_SAMPLES = 10_000_000


def power(samples: int, disagreement: float, limit: float, alpha: float, drop: float = 0.0) -> float:
    """Chance that a release with that true drop is shown to keep the limit.

    Args:
        samples: number of evaluation samples.
        disagreement: psi, the share of samples that one model has right and the other wrong.
        limit: the tolerated drop, a share.
        alpha: the level of the test.
        drop: the true drop, a share; at most the disagreement.
    """
    middle, spread = samples * disagreement, math.sqrt(samples * disagreement)
    first, last = max(0, int(middle - 6 * spread - 3)), min(samples, int(middle + 6 * spread + 6))
    discordant = np.arange(first, last + 1, dtype=np.float64)
    knots = np.unique(np.linspace(first, last, 7 if last - first > 40 else 41).astype(int))
    critical = np.interp(discordant, knots, [_critical(samples, int(knot), limit, alpha) for knot in knots])
    most_lost = np.floor((discordant + samples * limit + critical * deviation(samples, discordant, limit)) / 2 + 1e-9)
    share_lost = (1 + drop / disagreement) / 2 if disagreement else 0.5
    given = binomial_at_most(most_lost, discordant, min(1.0, share_lost))
    weight = stats.binom.pmf(discordant, samples, disagreement)
    return float((weight * given).sum())


def samples_needed(
    disagreement: float, limit: float, alpha: float, drop: float = 0.0, target: float = 0.8
) -> int | None:
    """The number of samples with which the limit is shown to be kept with the target power.

    Returns:
        The number, rounded up to two digits; None if no number suffices (the true drop is not under the limit) or more
        than ten million are needed.
    """
    if not -1 < drop < limit < 1 or disagreement < abs(drop):
        return None
    z, z_power = float(stats.norm.ppf(1 - alpha)), float(stats.norm.ppf(target))
    root = z * math.sqrt(max(disagreement, abs(limit)) - limit**2) + z_power * math.sqrt(disagreement - drop**2)
    samples = max(math.log(alpha) / math.log1p(-abs(limit)) if limit else 0.0, (root / (limit - drop)) ** 2)
    for _ in range(12):
        if samples > MOST_SAMPLES:
            return None
        reached = power(math.ceil(samples), disagreement, limit, alpha, drop)
        if reached >= target - 0.005:
            return _round_up(samples)
        growth = (z + z_power) / (z + float(stats.norm.ppf(max(reached, 0.05))))
        samples *= max(1.01, min(growth**2, 2.0))
    return None


def share_samples_needed(share: float, limit: float, alpha: float, target: float = 0.8) -> int | None:
    """Samples with which a true share is shown to be over a limit (exact binomial test), or None as above."""
    if not share > limit:
        return None

    def short(samples: float) -> float:
        hits = stats.binom.isf(alpha, math.ceil(samples), limit) + 1
        return target - float(stats.binom.sf(hits - 1, math.ceil(samples), share))

    if short(MOST_SAMPLES) > 0:
        return None
    return _round_up(optimize.brentq(short, 1, MOST_SAMPLES, xtol=0.5) * 1.02)


def mean_samples_needed(spread: float, margin: float, alpha: float, target: float = 0.8) -> int | None:
    """Samples with which a mean difference that lies a margin under its limit is shown to (normal approximation)."""
    if not margin > 0:
        return None
    needed = ((float(stats.norm.ppf(1 - alpha)) + float(stats.norm.ppf(target))) * spread / margin) ** 2
    return _round_up(max(30.0, needed)) if needed <= MOST_SAMPLES else None


def _critical(samples: int, discordant: int, limit: float, alpha: float) -> float:
    """The largest T that passes when that many samples disagree."""

    def excess(statistic: float) -> float:
        return p_value_of(samples, discordant, limit, statistic, grid=9) - alpha

    if excess(40.0) <= 0:
        return 40.0
    return float(optimize.brentq(excess, -40.0, 40.0, xtol=0.01))


def _round_up(samples: float) -> int:
    digits = 10 ** max(0, math.floor(math.log10(max(samples, 1))) - 1)
    return int(math.ceil(samples / digits) * digits)
