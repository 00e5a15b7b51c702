"""What each verdict leads to: nothing, training, or more bits for the layers to blame."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.graph.execute import to_torch
from edgeq.plan.plan import Plan
from edgeq.recovery import Budget, Options, Shuffled
from edgeq.recovery.guided import Advice, Guided, guided
from edgeq.recovery.stopping import GAVE_UP, Demand, Point, is_hopeless

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


def blame(case: Case) -> tuple[tuple[str, float], ...]:
    layers = (unit.name for unit in case.plan.units if unit.weight is not None)
    return tuple((layer, 1.0 / (i + 1)) for i, layer in enumerate(layers))


def test_far_out_the_asked_bits_are_trained_as_long_as_that_helps() -> None:
    asked: list[tuple[str, ...]] = []
    found = led("far", blame(digits("w2a8")), 40, asked)
    assert [run.steps for run in found.runs] == [40]
    assert found.kept, found.did
    assert found.plan.skeleton.bits == digits("w2a8").plan.skeleton.bits
    assert not asked


def test_far_out_where_it_does_not_help_the_layers_to_blame_get_more_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.recovery.guided._FAR_DEMAND", Demand(0.25, 0.0))
    shares = blame(digits("w2a8"))
    asked: list[tuple[str, ...]] = []
    found = led("far", shares, 32, asked)
    assert asked == [Advice("far", "", shares).blamed()]
    assert 0 < len(asked[0]) < len(shares)
    assert [run.steps for run in found.runs] == [8, 24]
    assert found.kept, found.did
    assert found.widened == asked[0]
    assert found.plan.skeleton.bits[asked[0][0]].weights == 8
    assert found.did[0] == "far: as the test says"
    assert found.did[1].startswith("trained 8 steps: ")
    assert found.did[2] == GAVE_UP
    assert found.did[3].startswith("more bits for ")


def test_with_nobody_to_blame_it_ends_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.recovery.guided._FAR_DEMAND", Demand(0.25, 0.0))
    found = led("far", (), 32, [])
    assert [run.steps for run in found.runs] == [8]
    assert found.did[-1] == "no layer stands out to be given more bits"


def test_a_budget_in_time_that_is_begun_again_goes_on_in_its_second_training_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeq.recovery.guided._FAR_DEMAND", Demand(0.25, 0.0))
    case, done = digits("w2a8"), []
    for _ in range(2):
        found = guided(
            case.graph, case.plan, Shuffled((case.train,), 32, seed=1), case.held_out, Budget(seconds=6),
            Advice("far", "as the test says", blame(case)), widened(case, []),
            options=Options(checkpoint_seconds=0.0), checkpoint_file=tmp_path / "run.asked",
        )  # fmt: skip
        done.append([run.steps for run in found.runs])
    assert len(done[0]) == 2
    assert done[0] == done[1], "both were finished"


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


def test_hopeless_is_what_does_not_fall_as_it_should_for_a_good_part_of_the_budget() -> None:
    def curve(*values: float) -> list[Point]:
        return [Point(i, 0.125 * i, value, 0.0, 1.0, 0.0, 0.0) for i, value in enumerate(values)]

    below = Demand(0.4, 1.0)
    assert not is_hopeless(curve(1, 2, 3), below)
    assert is_hopeless(curve(1, 2, 3, 2, 1.5), below)
    assert not is_hopeless(curve(1, 2, 0.9, 2, 1.5), below)
    assert is_hopeless(curve(1, 2, 0.9), Demand(0.25, 0.75))
    assert not is_hopeless(curve(1, 2, 0.7), Demand(0.25, 0.75))
    assert "stopped early" in GAVE_UP


def test_what_is_left_of_a_budget() -> None:
    assert Budget(steps=10).less(4, 9.0, 32) == Budget(steps=6)
    assert Budget(steps=10).less(10, 9.0, 32) is None
    assert Budget(seconds=10.0).less(4, 9.0, 32) == Budget(seconds=1.0)
    assert Budget(samples=100).less(2, 9.0, 32) == Budget(samples=36)
    assert Budget(samples=100).less(3, 9.0, 32) is None
