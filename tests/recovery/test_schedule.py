import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.recovery.schedule import Pace, one_cycle, polyak_step


def test_the_rate_rises_to_one_and_falls_to_almost_nothing() -> None:
    factors = [one_cycle(p / 100, 0.1) for p in range(101)]
    assert factors[10] == pytest.approx(1.0)
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0 < factors[0] < 0.02
    assert 0 < factors[-1] < 0.02


@given(steps=st.integers(1, 500), at=st.integers(0, 499), seconds=st.floats(0, 1e4), per_step=st.floats(1e-3, 10))
def test_a_corrected_pace_goes_on_from_where_it_stood_and_ends_at_one(
    steps: int, at: int, seconds: float, per_step: float
) -> None:
    at = min(at, steps - 1)
    pace = Pace(steps)
    new = pace.corrected(at, seconds, per_step)
    assert new.at(at) == pytest.approx(pace.at(at))
    assert new.at(new.steps) == 1.0
    assert new.steps > at
    progress = [new.at(step) for step in range(at, min(new.steps, at + 50) + 1)]
    assert progress == sorted(progress)


def test_a_small_difference_of_speed_corrects_nothing() -> None:
    pace = Pace(100)
    assert pace.corrected(50, 10.4, 0.2) is pace
    assert pace.corrected(50, 20.0, 0.2).steps == 150


def test_polyak_reaches_the_minimum_of_a_bowl_in_one_direction() -> None:
    # f = x^2, f* = 0: the full Polyak step f / |f'|^2 halves x.
    x = 3.0
    assert x - polyak_step(x * x, (2 * x) ** 2, 1.0) * 2 * x == pytest.approx(x / 2)
    assert math.isfinite(polyak_step(0.0, 0.0, 0.2))
