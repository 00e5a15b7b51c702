"""Synthetic releases of which the truth is known, and how often the gate's paired test passes or fails them."""

import numpy as np

from edgeq.release.statistics.paired import PairedCounts, drop_kept

RELEASES, ALPHA = 10_000, 0.05


def releases(samples: int, disagreement: float, drop: float, seed: int = 0) -> np.ndarray:
    """int64 (releases, 2): lost and gained samples of releases with that true drop."""
    rates = [(disagreement + drop) / 2, (disagreement - drop) / 2, 1 - disagreement]
    return np.random.default_rng(seed).multinomial(samples, rates, RELEASES)[:, :2]


def most_lost_that_pass(samples: int, totals: list[int], limit: float) -> dict[int, int]:
    """By how many samples disagree: the test passes up to so many lost ones (its p-value grows with them)."""
    critical: dict[int, int] = {}
    last = totals[0] // 2
    for discordant in totals:

        def passes(lost: int, of: int = discordant) -> bool:
            return lost < 0 or (lost <= of and drop_kept(PairedCounts(samples, lost, of - lost), limit) <= ALPHA)

        while not passes(last):
            last -= 1
        while passes(last + 1):
            last += 1
        critical[discordant] = last
    return critical


def pass_rate(samples: int, drawn: np.ndarray, limit: float) -> float:
    """Share of the releases that the gate passes."""
    totals = drawn.sum(axis=1)
    critical = most_lost_that_pass(samples, np.unique(totals).tolist(), limit)
    return float(np.mean(drawn[:, 0] <= np.vectorize(critical.__getitem__)(totals)))


def fail_rate(samples: int, drawn: np.ndarray, limit: float) -> float:
    """Share of the releases that the gate fails: broken(lost, gained, d) is kept(gained, lost, -d)."""
    return pass_rate(samples, drawn[:, ::-1], -limit)
