"""The gate's statistics against known truth: 10,000 synthetic releases at each sample size, and independent oracles.

A release on the border is the hardest one: its true drop is exactly the tolerated one, so passing it and failing it are
both errors. Rates may exceed the level by three standard deviations of 10,000 trials, 0.0065.
"""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgeq.measurement import Measurement
from edgeq.release.budgets import Budgets
from edgeq.release.gate import gate
from edgeq.release.outcome import Outcome
from edgeq.release.release import Release
from edgeq.release.statistics.bootstrap import mean_difference
from edgeq.release.statistics.multiplicity import holm
from edgeq.release.statistics.paired import (
    PairedCounts,
    binomial_at_most,
    count_pairs,
    drop_broken,
    drop_interval,
    drop_kept,
    mcnemar,
)
from edgeq.release.statistics.power import power, samples_needed, share_samples_needed
from edgeq.release.statistics.shares import clopper_pearson, share_broken, share_kept

from .synthetic import ALPHA, RELEASES, fail_rate, pass_rate, releases

TOLERANCE = 3 * (ALPHA * (1 - ALPHA) / RELEASES) ** 0.5


@pytest.mark.parametrize("samples", [50, 200, 1000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("limit", "disagreement"), [(0.005, 0.006), (0.01, 0.03), (0.05, 0.1)])
def test_false_passes_are_at_or_under_the_level(samples: int, limit: float, disagreement: float) -> None:
    assert pass_rate(samples, releases(samples, disagreement, drop=limit), limit) <= ALPHA + TOLERANCE


@pytest.mark.parametrize("samples", [50, 200, 1000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("limit", "disagreement"), [(0.005, 0.006), (0.01, 0.03), (0.05, 0.1)])
def test_false_fails_are_at_or_under_the_level(samples: int, limit: float, disagreement: float) -> None:
    assert fail_rate(samples, releases(samples, disagreement, drop=limit), limit) <= ALPHA + TOLERANCE


@pytest.mark.parametrize("drop", [0.0, 0.05])
def test_the_whole_gate_errs_no_more_often_than_its_test(
    make_release: Callable[..., Release],
    make_measurement: Callable[..., Measurement],
    monkeypatch: pytest.MonkeyPatch,
    drop: float,
) -> None:
    # How many samples would tell is a long search, and no part of the verdict.
    monkeypatch.setattr("edgeq.release.checks.comparison.samples_needed", lambda *_, **__: 1)
    samples, limit, number = 500, 0.02, 150
    drawn = releases(samples, 0.06, drop)[:number]
    outcomes = {
        (lost, gained): gate(
            make_release(make_measurement(samples=samples, lost=lost, gained=gained)), Budgets(accuracy_drop=limit)
        ).outcome
        for lost, gained in {(int(lost), int(gained)) for lost, gained in drawn}
    }
    found = [outcomes[int(lost), int(gained)] for lost, gained in drawn]
    assert np.mean([outcome is Outcome.PASS for outcome in found]) == pass_rate(samples, drawn, limit)
    assert np.mean([outcome is Outcome.FAIL for outcome in found]) == fail_rate(samples, drawn, limit)


def test_broken_is_kept_of_the_swapped_counts() -> None:
    for lost, gained, limit in [(30, 10, 0.01), (5, 9, 0.0), (0, 0, 0.02)]:
        swapped = PairedCounts(1000, gained, lost)
        assert drop_broken(PairedCounts(1000, lost, gained), limit) == drop_kept(swapped, -limit)


@pytest.mark.parametrize("samples", [200, 2000])
def test_a_release_that_keeps_every_slice_fails_no_more_often_than_the_level(samples: int) -> None:
    slices, limit = 10, 0.02
    drawn = np.stack([releases(samples // slices, 0.05, limit, seed) for seed in range(slices)], axis=1)[:2000]
    p_values = {
        tuple(pair): drop_broken(PairedCounts(samples // slices, *map(int, pair)), limit)
        for pair in np.unique(drawn.reshape(-1, 2), axis=0).tolist()
    }
    failed = [min(holm([p_values[tuple(pair)] for pair in release])) <= ALPHA for release in drawn.tolist()]
    assert np.mean(failed) <= ALPHA + 3 * (ALPHA * (1 - ALPHA) / 2000) ** 0.5


@pytest.mark.parametrize(("disagreement", "limit"), [(0.02, 0.01), (0.05, 0.01), (0.03, 0.03), (0.02, 0.005)])
def test_the_number_of_samples_that_is_named_gives_the_power_that_is_promised(
    disagreement: float, limit: float
) -> None:
    samples = samples_needed(disagreement, limit, ALPHA)
    assert samples is not None
    reached = pass_rate(samples, releases(samples, disagreement, drop=0.0), limit)
    # Promised 0.80: half a point of slack in the search, and three standard deviations (0.012) of the simulation.
    assert 0.80 - 0.005 - 0.012 <= reached <= 0.87
    assert power(samples, disagreement, limit, ALPHA) == pytest.approx(reached, abs=0.02)
    fewer = pass_rate(samples // 2, releases(samples // 2, disagreement, drop=0.0), limit)
    assert fewer < 0.7


def test_no_number_of_samples_shows_a_drop_that_is_not_under_the_limit() -> None:
    assert samples_needed(0.05, 0.01, ALPHA, drop=0.01) is None
    assert share_samples_needed(0.97, 0.98, ALPHA) is None
    assert samples_needed(0.05, 1e-7, ALPHA) is None


def test_samples_needed_for_a_share_give_the_power() -> None:
    samples = share_samples_needed(0.99, 0.98, ALPHA)
    assert samples is not None
    hits = np.random.default_rng(0).binomial(samples, 0.99, RELEASES)
    passed = {int(h): share_kept(int(h), samples, 0.98) <= ALPHA for h in np.unique(hits)}
    assert 0.78 <= np.mean([passed[int(h)] for h in hits]) <= 0.88


@pytest.mark.parametrize("samples", [50, 500, 10_000])
def test_shares_keep_their_levels_on_the_border(samples: int) -> None:
    hits = np.random.default_rng(1).binomial(samples, 0.98, RELEASES)
    kept = {int(h): share_kept(int(h), samples, 0.98) <= ALPHA for h in np.unique(hits)}
    broken = {int(h): share_broken(int(h), samples, 0.98) <= ALPHA for h in np.unique(hits)}
    for table in (kept, broken):
        assert np.mean([table[int(h)] for h in hits]) <= ALPHA + TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("samples", [50, 200])
@pytest.mark.parametrize("shape", ["normal", "uniform", "laplace"])
def test_the_bootstrap_keeps_its_level_for_symmetric_differences(samples: int, shape: str) -> None:
    rng = np.random.default_rng(2)
    wrong = [mean_difference(getattr(rng, shape)(size=samples), seed=k) for k in range(1000)]
    centre = 0.5 if shape == "uniform" else 0.0
    # Three standard deviations of 1,000 trials are 0.021.
    assert np.mean([d.under(centre) <= ALPHA for d in wrong]) <= ALPHA + 0.021
    assert np.mean([d.over(centre) <= ALPHA for d in wrong]) <= ALPHA + 0.021


def test_the_bootstrap_interval_is_scipys_where_students_t_is_not_wider() -> None:
    differences = np.random.default_rng(1).exponential(size=200)
    found = mean_difference(differences)
    low, high = found.interval(0.9)
    theirs = stats.bootstrap(
        (differences,), np.mean, method="BCa", confidence_level=0.9, n_resamples=9999, rng=np.random.default_rng(0)
    ).confidence_interval
    assert high == pytest.approx(theirs.high, rel=1e-12)  # the same resamples and formula, in another order of sums
    assert low <= theirs.low
    assert found.under(high) == pytest.approx(0.05, abs=1e-3)
    assert found.over(low) == pytest.approx(0.05, abs=1e-3)


def test_equal_differences_have_no_spread() -> None:
    found = mean_difference(np.full(50, 0.25))
    assert (found.under(0.4), found.under(0.2), found.over(0.2), found.interval(0.9)) == (0.0, 1.0, 0.0, (0.25, 0.25))


@given(st.integers(1, 400), st.data())
@settings(max_examples=40, deadline=None)
def test_the_interval_and_the_two_tests_agree(samples: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, samples))
    gained = data.draw(st.integers(0, samples - lost))
    counts = PairedCounts(samples, lost, gained)
    low, high = drop_interval(counts, 1 - 2 * ALPHA)
    assert -1 <= low <= counts.drop <= high <= 1
    if high < 0.99:
        assert drop_kept(counts, high) <= ALPHA + 1e-9
    if low > -0.99:
        assert drop_broken(counts, low) <= ALPHA + 1e-9


def test_more_lost_samples_never_help() -> None:
    for discordant in (0, 1, 7, 40):
        p_values = [drop_kept(PairedCounts(1000, b, discordant - b), 0.01) for b in range(discordant + 1)]
        assert p_values == sorted(p_values)


def test_mcnemar_is_the_binomial_sign_test() -> None:
    assert mcnemar(PairedCounts(100, 0, 0)) == 1.0
    assert mcnemar(PairedCounts(100, 8, 1)) == pytest.approx(2 * sum(map(int, (1, 9))) / 2**9)
    scores = np.array([1.0, 1.0, 0.0, 0.0, 1.0])
    assert count_pairs(scores, np.array([0.0, 1.0, 1.0, 0.0, 0.0])) == PairedCounts(5, 2, 1)


def test_the_binomial_tail_is_scipys() -> None:
    hits = np.arange(-2, 13, dtype=np.float64)
    expected = stats.binom.cdf(hits, 10, 0.3)
    assert binomial_at_most(hits, np.full(15, 10.0), 0.3) == pytest.approx(expected, abs=1e-14)


def test_holm_steps_down_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([]) == ()
    assert holm([0.9, 0.8]) == (1.0, 1.0)


def test_clopper_pearson_of_none_and_all() -> None:
    assert clopper_pearson(0, 100, 0.95) == pytest.approx((0.0, 1 - 0.025 ** (1 / 100)))
    assert clopper_pearson(100, 100, 0.95)[1] == 1.0


@pytest.mark.parametrize("counts", [(0, 0, 0), (5, 4, 2), (5, -1, 0)])
def test_impossible_counts_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="impossible"):
        PairedCounts(*counts)
