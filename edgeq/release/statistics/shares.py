"""A share of samples against a limit: exact binomial tests and the Clopper-Pearson interval."""

from scipy import stats


def share_kept(hits: int, samples: int, limit: float) -> float:
    """P-value of the hypothesis that the true share is at or under the limit: small means it is shown to be over."""
    return float(stats.binomtest(hits, samples, limit, alternative="greater").pvalue)


def share_broken(hits: int, samples: int, limit: float) -> float:
    """P-value of the hypothesis that the true share is at or over the limit: small means it is shown to be under."""
    return float(stats.binomtest(hits, samples, limit, alternative="less").pvalue)


def clopper_pearson(hits: int, samples: int, level: float) -> tuple[float, float]:
    """The exact confidence interval of a share (Clopper and Pearson, Biometrika 26, 1934)."""
    interval = stats.binomtest(hits, samples).proportion_ci(confidence_level=level, method="exact")
    return float(interval.low), float(interval.high)
