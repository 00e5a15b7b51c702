"""A gain is kept where samples show it, alone or both sets together; labels can veto; chance is rarely a gain."""

import numpy as np

from edgeq.recovery.keep import Witness, why_not_kept
from edgeq.recovery.watch import Scores


def scores(values: list[float], correct: int | None = None, soft: list[float] | None = None) -> Scores:
    hard = np.array(values)
    return Scores(hard, hard if soft is None else np.array(soft), 1.0, correct)


BEFORE = scores([1.0, 1.1, 0.9, 1.0, 1.2, 0.8, 1.0, 1.1], 3)
GOOD = [0.1, 0.2, 0.15, 0.25, 0.3, 0.05, 0.1, 0.2]
#: Samples that chose the plan and say nothing of it.
SILENT = Witness(BEFORE, BEFORE, 10)


def judged(after: Scores, watched: Witness = SILENT) -> str:
    return why_not_kept(Witness(BEFORE, after), watched)


def test_labels_and_noise_can_veto_a_gain() -> None:
    assert judged(scores(GOOD, 3)) == ""
    assert "labels" in judged(scores(GOOD, 2))
    # Better on average, by one sample; better in most, worse on average; the same.
    assert "do not show" in judged(scores([1.1, 1.2, 1.0, 0.0, 1.3, 0.7, 1.0, 1.1], 4))
    assert "do not show" in judged(scores([0.9, 1.0, 0.8, 0.9, 1.1, 9.0, 0.9, 1.0], 4))
    assert "do not show" in judged(BEFORE)
    assert "not finite" in judged(scores([0.1, float("nan"), 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], 4))


def test_a_softened_gain_counts_but_not_against_the_plain_one() -> None:
    little, worse = [0.9, 1.2, 0.8, 1.1, 1.1, 0.7, 1.0, 1.1], [0.9, 1.2, 0.8, 1.1, 1.1, 1.1, 1.0, 1.1]
    assert judged(scores(little, 3, GOOD)) == ""
    assert "do not show" in judged(scores(worse, 3, GOOD))
    assert "do not show" in judged(scores(little, 3))


def test_samples_that_chose_a_plan_help_to_show_its_gain_but_need_the_others() -> None:
    """Some judging samples lean to it, too few to tell; the watched ones are sure even for ten points."""
    leaning = scores([0.9, 1.0, 1.0, 1.1, 1.0, 0.7, 0.9, 1.1], 3)
    fell = Witness(BEFORE, scores(GOOD), 10)
    assert "do not show" in judged(leaning)
    assert judged(leaning, fell) == ""
    assert "do not show" in judged(scores([1.0, 1.2, 0.9, 1.1, 1.2, 0.9, 1.0, 1.1], 3), fell)


def test_plans_that_are_no_better_are_rarely_kept() -> None:
    """The watched samples choose the best of ten equal plans; no more than one run in twenty may keep it."""
    g = np.random.default_rng(0)
    kept, runs = 0, 1000
    for _ in range(runs):
        before, points = g.exponential(size=(2, 12)), g.exponential(size=(10, 2, 12))
        chosen = points[points[:, 0].mean(1).argmin()]
        watched = Witness(scores(list(before[0])), scores(list(chosen[0])), 10)
        kept += why_not_kept(Witness(scores(list(before[1])), scores(list(chosen[1]))), watched) == ""
    assert kept <= 0.05 * runs
