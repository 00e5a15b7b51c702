import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.devices import latency
from edgeq.errors import DeviceError


def timings(rng: np.random.Generator, ratio: float, processes: int = 5, pairs: int = 60, spread: float = 0.02) -> list:
    """Log-normal timings with a factor of its own for each process and artefact, and a drift that both share."""
    rounds = []
    for _ in range(processes):
        base = 1e6 * np.exp(rng.normal(0, spread, 2)) * np.array([1, ratio])
        drift = np.exp(np.cumsum(rng.normal(0, 0.02, pairs)))[:, None]
        rounds.append((base * drift * np.exp(rng.normal(0, 0.05, (pairs, 2)))).astype(np.int64))
    return rounds


def test_the_same_seed_gives_the_same_interval() -> None:
    rounds = timings(np.random.default_rng(0), 0.5)
    assert latency.ratio(rounds, seed=3) == latency.ratio(rounds, seed=3)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(100):
        interval = latency.ratio(timings(rng, 0.7), seed=seed, resamples=200)
        covered += interval.low <= 0.7 <= interval.high
    # Five processes are few: a bootstrap over five clusters covers less than its nominal 95 %.
    assert 80 <= covered <= 100


def test_intervals_of_repeats_overlap() -> None:
    rng = np.random.default_rng(2)
    first, second = (latency.ratio(timings(rng, 0.4), seed=0) for _ in range(2))
    assert first.low <= second.high
    assert second.low <= first.high


@given(st.floats(0.01, 100))
def test_an_exact_multiple_is_found_exactly(factor: float) -> None:
    one = np.arange(1_000_000, 1_000_040, dtype=np.int64)
    interval = latency.ratio([np.stack([one, (one * factor).astype(np.int64)], 1)] * 2, seed=0, resamples=50)
    # Whole nanoseconds of numbers above ten thousand, and forty values within 4e-5 of each other.
    assert interval.low == pytest.approx(factor, rel=2e-4)
    assert interval.high == pytest.approx(factor, rel=2e-4)


@pytest.mark.parametrize("rounds", [[], [np.zeros((0, 2), np.int64)], [np.array([[5, 0]])], [np.array([[5, -1]])]])
def test_nothing_or_nonsense_is_never_a_ratio(rounds: list) -> None:
    with pytest.raises(DeviceError, match="latency"):
        latency.ratio(rounds, seed=0)


def test_median_and_p90_are_milliseconds() -> None:
    assert latency.median_and_p90(np.arange(11) * 1_000_000) == (5.0, 9.0)
