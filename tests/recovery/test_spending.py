"""A budget in time holds all of a run: the start, the steps, the looks and the judgement. By a clock that we move."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeq.errors import DataError
from edgeq.recovery import Budget, Options, Progress, RecoveryResult, Shuffled, Streamed, recover, run
from edgeq.recovery.guided import Advice, guided
from edgeq.recovery.spending import FEWEST_STEPS, affordable
from edgeq.recovery.teacher import Teacher
from edgeq.recovery.trainer import Trainer
from edgeq.recovery.watch import MOST_WATCHED, HeldOut, Sizes, selected

from .models import digits
from .test_resume import assert_equal
from .worker import numbers


@dataclass
class Clock:
    """Seconds that pass only by what is done: for a sample or, where it is not of samples, each time."""

    now: float = 0.0
    float_pass: float = 0.001
    quantized_pass: float = 0.0015
    step: float = 0.1
    start: float = 0.0
    whereabouts: float = 0.2


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()

    def costs(owner: Any, name: str, seconds: Callable[..., float]) -> None:
        real = getattr(owner, name)

        def does(*args: Any, **kwargs: Any) -> Any:
            found.now += seconds(*args)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, does)

    monkeypatch.setattr(run, "monotonic", lambda: found.now)
    costs(Teacher, "outputs", lambda _, inputs: found.float_pass * len(inputs[0]))
    costs(Trainer, "__init__", lambda *_: found.start)
    costs(Trainer, "update", lambda *_: found.step)
    costs(HeldOut, "scores", lambda held, _: found.quantized_pass * held.count)
    costs(run, "whereabouts", lambda *_: found.whereabouts)
    return found


def trained(
    seconds: float, checkpoint: Path | None = None, progress: Callable[[Progress], None] | None = None
) -> RecoveryResult:
    case = digits("w2a8")
    return recover(
        case.graph, case.plan, Shuffled((case.train,), 8, seed=1), case.held_out, Budget(seconds=seconds),
        options=Options(inside=0.0), checkpoint_file=checkpoint, progress=progress,
    )  # fmt: skip


def test_the_budget_holds_the_start_and_the_judgement(clock: Clock) -> None:
    result = trained(20)
    assert result.seconds == clock.now
    assert 17 < clock.now < 20.5
    assert result.steps * clock.step > 10
    assert result.curve[-1].progress == 1.0
    assert [point.progress for point in result.curve] == pytest.approx([k / 8 for k in range(9)], abs=0.02)


def test_what_the_start_costs_is_not_taken_for_the_price_of_a_step(clock: Clock) -> None:
    clock.start = 10.0
    result = trained(20)
    assert 17 < clock.now < 20.5
    # It is planned once: each look finds the steps as dear as they were.
    planned = [point.step / result.steps for point in result.curve]
    assert planned == pytest.approx([k / 8 for k in range(9)], abs=0.05)


def test_a_machine_that_becomes_slower_or_faster_still_ends_in_time(clock: Clock) -> None:
    for factor in (0.3, 3.0):
        clock.now, clock.step = 0.0, 0.1

        def change(progress: Progress, factor: float = factor) -> None:
            clock.step = 0.1 * factor if progress.step >= 20 else 0.1

        result = trained(20, progress=change)
        assert 16 < clock.now < 21
        assert result.curve[-1].progress == 1.0


def test_a_budget_that_is_too_short_says_what_would_do_and_trains_nothing(clock: Clock) -> None:
    clock.start = 5.0
    result = trained(6)
    assert (result.steps, result.kept) == (0, False)
    assert result.reason == result.stopped
    assert clock.now < 7
    before, _, needed = result.reason.partition("; about ")
    assert before.startswith("6 s hold 0 steps beside looking and judging")
    enough = float(needed.removesuffix(" s would do"))
    clock.now = 0.0
    assert trained(enough).steps >= FEWEST_STEPS
    assert clock.now < enough + 0.5


def test_slow_models_are_judged_on_fewer_samples_and_budgets_in_steps_on_all(clock: Clock) -> None:
    clock.float_pass, clock.quantized_pass = 0.015, 0.0225
    result = trained(30)
    assert 32 <= result.judging.count < 100
    assert 25 < clock.now < 31
    case = digits("w2a8")
    whole = recover(case.graph, case.plan, Shuffled((case.train,), 8), case.held_out, Budget(steps=1))
    assert whole.judging.count == 100


class StoppedHereError(Exception):
    pass


def stop(progress: Progress) -> None:
    if progress.step == 12:
        raise StoppedHereError


def test_a_resumed_run_goes_on_as_it_began_whatever_the_speed_is_now(clock: Clock, tmp_path: Path) -> None:
    clock.float_pass, clock.quantized_pass = 0.015, 0.0225
    whole = trained(30)
    with pytest.raises(StoppedHereError):
        trained(30, tmp_path / "c.pt", stop)
    clock.float_pass = 0.0
    resumed = trained(30, tmp_path / "c.pt")
    assert whole.judging.count == resumed.judging.count < 100
    assert_equal(numbers(whole), numbers(resumed))


def test_a_stream_is_trained_on_for_as_long(clock: Clock) -> None:
    case = digits("w2a8")
    samples = Streamed([(part,) for part in case.train.split(16)])
    result = recover(case.graph, case.plan, samples, case.held_out[:1], Budget(seconds=6))
    assert 5 < result.seconds < 6.3
    assert result.curve[-1].progress == 1.0


def test_far_out_too_short_a_budget_changes_nothing_and_says_what_would_do(clock: Clock) -> None:
    case = digits("w2a8")
    layer = next(unit.name for unit in case.plan.units if unit.weight is not None)
    clock.start = 5.0
    found = guided(
        case.graph, case.plan, Shuffled((case.train,), 8, seed=1), case.held_out, Budget(seconds=6),
        Advice("far", "as the test says", ((layer, 1.0),)), lambda _: digits("w4a8").plan,
    )  # fmt: skip
    assert not found.kept
    assert found.did[1].startswith("trained 0 steps: 6 s hold 0 steps")
    assert clock.now < 7


def test_how_many_samples_a_budget_affords() -> None:
    assert affordable(2048, 1e-6, 30.0) == Sizes(2048, MOST_WATCHED)
    few = affordable(2048, 0.003, 30.0)
    assert 32 < few.watched < MOST_WATCHED
    assert 300 < few.used < 1000
    assert affordable(2048, 1.0, 30.0) == Sizes(64, 32)
    assert affordable(10, 1.0, 30.0) == Sizes(10, 32)


def test_some_of_the_samples_evenly_spread_with_their_labels() -> None:
    x = torch.arange(23)
    batches, labels = [(part, 2 * part) for part in x.split(5)], list((-x).split(5))
    inputs, chosen = selected(batches, labels, 8)
    assert chosen is not None
    assert [len(one) for one, _ in inputs] == [len(part) for part in chosen] == [5, 3]
    kept = torch.cat([one for one, _ in inputs])
    assert set(kept.diff().tolist()) <= {2, 3}
    assert torch.equal(torch.cat([two for _, two in inputs]), 2 * kept)
    assert torch.equal(torch.cat(list(chosen)), -kept)
    assert selected(batches, None, 23) == (batches, None)
    with pytest.raises(DataError, match="labels"):
        selected(batches, labels[:2], 3)


def test_batches_of_several_lengths_stay_apart() -> None:
    batches = [(torch.zeros(4, 2),), (torch.ones(4, 3),)]
    assert [tuple(x.shape) for (x,) in selected(batches, None, 3)[0]] == [(2, 2), (1, 3)]
