"""What each verdict leads to: nothing, training, or more bits for the layers to blame."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.graph.execute import to_torch
from edgeq.plan.plan import Plan
from edgeq.recovery import Budget, Options, Shuffled
from edgeq.recovery.guided import Advice, Guided, guided
from edgeq.recovery.stopping import GAVE_UP, Point, is_hopeless

from .models import Case, digits


def widened(case: Case, asked: list[tuple[str, ...]]) -> Callable[[tuple[str, ...]], Plan]:
    def widen(layers: tuple[str, ...]) -> Plan:
        asked.append(layers)
        old = case.plan.skeleton
        skeleton = replace(old, bits={u: replace(b, weights=8) if u in layers else b for u, b in old.bits.items()})
        return nearest(case.graph, skeleton, observe(to_torch(case.graph), [(case.train[:200],)], skeleton))

    return widen


def led(verdict: str, blame: tuple[tuple[str, float], ...], steps: int, asked: list[tuple[str, ...]]) -> Guided:
    case = digits("w2a8")
    return guided(
        case.graph, case.plan, Shuffled((case.train,), 32, seed=1), case.held_out, Budget(steps=steps),
        Advice(verdict, "as the test says", blame), widened(case, asked), options=Options(checkpoint_seconds=1e9),
    )  # fmt: skip


@pytest.mark.parametrize("verdict", ["inside", "broken"])
def test_nothing_is_trained_where_training_cannot_help(verdict: str) -> None:
    asked: list[tuple[str, ...]] = []
    found = led(verdict, (), 5, asked)
    assert not found.kept
    assert not found.runs
    assert not asked
    assert found.did == (f"{verdict}: as the test says; nothing to train",)


def test_far_out_the_layers_to_blame_get_more_bits_and_only_a_better_plan_is_taken() -> None:
    case = digits("w2a8")
    layers = tuple(unit.name for unit in case.plan.units if unit.weight is not None)
    blame = tuple((layer, 1.0 / (i + 1)) for i, layer in enumerate(layers))
    asked: list[tuple[str, ...]] = []
    found = led("far", blame, 16, asked)
    assert asked == [Advice("far", "", blame).blamed()]
    assert 0 < len(asked[0]) < len(layers)
    assert len(found.runs) == 1
    assert found.kept, found.did
    assert found.widened == asked[0]
    assert found.plan.skeleton.bits[asked[0][0]].weights == 8
    assert found.did[0] == "far: as the test says"
    assert found.did[1].startswith("more bits for ")


def test_on_a_wall_it_trains_at_the_bits_that_were_asked_for() -> None:
    asked: list[tuple[str, ...]] = []
    found = led("exit", (("whatever", 1.0),), 40, asked)
    assert len(found.runs) == 1
    assert not asked
    assert found.plan.skeleton.bits == digits("w2a8").plan.skeleton.bits


def test_half_of_the_blame_names_the_layers() -> None:
    shares = (("a", 4.0), ("b", 3.0), ("c", 2.0), ("d", 1.0), ("e", -1.0))
    assert Advice("far", "", shares).blamed() == ("a", "b")
    assert Advice("far", "", ()).blamed() == ()


def test_hopeless_is_what_stays_above_its_start_for_a_good_part_of_the_budget() -> None:
    def curve(*values: float) -> list[Point]:
        return [Point(i, 0.125 * i, value, 0.0, 1.0, 0.0, 0.0) for i, value in enumerate(values)]

    assert not is_hopeless(curve(1, 2, 3))
    assert is_hopeless(curve(1, 2, 3, 2, 1.5))
    assert not is_hopeless(curve(1, 2, 0.9, 2, 1.5))
    assert "stopped early" in GAVE_UP


def test_what_is_left_of_a_budget() -> None:
    assert Budget(steps=10).less(4, 9.0, 32) == Budget(steps=6)
    assert Budget(steps=10).less(10, 9.0, 32) is None
    assert Budget(seconds=10.0).less(4, 9.0, 32) == Budget(seconds=1.0)
    assert Budget(samples=100).less(2, 9.0, 32) == Budget(samples=36)
    assert Budget(samples=100).less(3, 9.0, 32) is None
