"""A run that is interrupted anywhere and resumed gives, to the last bit, what an uninterrupted one gives."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import UsageError
from edgeq.recovery import Budget, Options, Progress, Recipe, RecoveryResult, Shuffled, recover

from .models import digits
from .worker import numbers

WORKER = Path(__file__).with_name("worker.py")
STEPS = 24


class InterruptedHereError(Exception):
    pass


def run(checkpoint: Path | None, stop_at: int | None = None, seed: int = 5) -> RecoveryResult:
    case = digits("w2a8")

    def maybe_stop(progress: Progress) -> None:
        if progress.step == stop_at:
            raise InterruptedHereError

    return recover(
        case.graph,
        case.plan,
        Shuffled((case.train,), 16, seed=seed),
        case.held_out[:2],
        Budget(steps=STEPS),
        recipe=Recipe(freeze_above=0.05, average=0.9),
        options=Options(checkpoint_seconds=0.0),
        checkpoint_file=checkpoint,
        progress=maybe_stop,
    )


def assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for key in one:
        assert np.array_equal(one[key], other[key]), key


def test_interrupted_at_several_steps_and_resumed(tmp_path: Path) -> None:
    whole = numbers(run(None))
    for stop_at in (2, 3, 11, 23):
        with pytest.raises(InterruptedHereError):
            run(tmp_path / "c.pt", stop_at)
    resumed = run(tmp_path / "c.pt")
    assert_equal(whole, numbers(resumed))
    assert resumed.steps == STEPS
    # A finished run's checkpoint gives its result again without another step.
    assert_equal(whole, numbers(run(tmp_path / "c.pt", stop_at=1)))


def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InterruptedHereError):
        run(tmp_path / "c.pt", 2)
    case = digits("w3a8")
    with pytest.raises(UsageError, match="of another model"):
        recover(
            case.graph, case.plan, Shuffled((case.train,), 16), case.held_out[:2], Budget(steps=STEPS),
            checkpoint_file=tmp_path / "c.pt",
        )  # fmt: skip


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed(tmp_path: Path) -> None:
    kills = int(os.environ.get("EDGEQ_KILLS", "4"))
    whole = tmp_path / "whole.npz"
    began = time.monotonic()
    subprocess.run(command(tmp_path / "whole.pt", whole), check=True, timeout=300)
    usual = time.monotonic() - began
    random_ = random.Random(0)
    for kill in range(kills):
        checkpoint, result = tmp_path / f"{kill}.pt", tmp_path / f"{kill}.npz"
        deaths = 0
        while not result.exists():
            process = subprocess.Popen(command(checkpoint, result))
            try:
                process.wait(random_.uniform(0.3, 1.0) * usual if deaths < 2 else 300)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                deaths += 1
            assert process.wait() in (0, -signal.SIGKILL)
        with np.load(whole) as one, np.load(result) as other:
            assert_equal(dict(one), dict(other))


def command(checkpoint: Path, result: Path) -> list[str]:
    return [sys.executable, str(WORKER), str(checkpoint), str(result), str(STEPS)]
