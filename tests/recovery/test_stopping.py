import math

import pytest

from edgeq.errors import UsageError
from edgeq.recovery.stopping import Budget, Point, warning, why_stop


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("2min", Budget(seconds=120)),
        ("30s", Budget(seconds=30)),
        ("1.5 h", Budget(seconds=5400)),
        ("500 steps", Budget(steps=500)),
        ("20000samples", Budget(samples=20000)),
    ],
)
def test_budgets_are_read_as_they_are_written(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget


@pytest.mark.parametrize("text", ["", "2", "min", "-3min", "0s", "1.5steps", "2 days", "nan s"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="budget"):
        Budget.parse(text)


def test_a_budget_is_one_number() -> None:
    with pytest.raises(UsageError, match="one positive number"):
        Budget(seconds=1, steps=1)
    with pytest.raises(UsageError, match="one positive number"):
        Budget()
    assert Budget(samples=100).fixed_steps(32) == 3
    assert Budget(seconds=1).fixed_steps(32) is None


def curve(*deployed: float) -> list[Point]:
    last = len(deployed) - 1
    return [Point(i, i / 8 if last <= 8 else i / last, d, 0, 1, 0, i) for i, d in enumerate(deployed)]


def test_it_stops_inside_the_basin_and_when_the_loss_is_not_finite() -> None:
    assert why_stop(curve(1.0, 0.5), 0.002) == ""
    assert "inside the basin" in why_stop(curve(1.0, 0.001), 0.002)
    assert "not finite" in why_stop(curve(1.0, math.nan), 0.002)


def test_it_warns_early_of_a_run_that_will_not_get_there_and_not_of_one_that_will() -> None:
    assert "outside of the basin" in warning(curve(3.0, 2.9, 2.8, 2.7, 2.6))
    assert "above its start" in warning(curve(1.0, 1.5, 1.6, 1.7, 1.8))
    assert warning(curve(3.0, 1.5, 0.7, 0.35, 0.17)) == ""
    assert warning(curve(3.0, 2.9)) == ""
