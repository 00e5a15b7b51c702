"""What a run is given besides its recipe, what it says on its way, and what comes of it."""

from dataclasses import dataclass

from edgeq.plan.plan import Plan
from edgeq.recovery.stopping import INSIDE, Demand, Point
from edgeq.recovery.watch import HeldOut, Scores
from edgeq.task import Task


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Attributes:
        step: updates done.
        steps: updates planned.
        seconds: spent so far.
        seconds_left: expected.
        point: the newest point of the curve.
    """

    step: int
    steps: int
    seconds: float
    seconds_left: float
    point: Point


@dataclass(frozen=True)
class Options:
    """What shapes a run besides its recipe.

    Attributes:
        task: what the outputs are (``edgeq.basin``); None guesses.
        layers: train these units only; None trains all.
        inside: stop where the watched divergence is at most this.
        demand: what must be reached, else the run is stopped; None to go on in any case.
        device: None takes a GPU if there is one.
        checkpoint_seconds: a checkpoint is written at the watch points, and when this long has passed without one.
    """

    task: Task | None = None
    layers: frozenset[str] | None = None
    inside: float = INSIDE
    demand: Demand | None = None
    device: str | None = None
    checkpoint_seconds: float = 20.0


@dataclass(frozen=True, eq=False)
class RecoveryResult:
    """What came of it.

    Attributes:
        plan: the recovered plan if it was kept, else the one it started from.
        kept: whether the recovered plan is better on held-out samples.
        reason: why it was kept or not.
        curve: held-out losses along the way.
        judging: the half of the held-out samples that judged; a short budget in time takes fewer.
        watched: those that were looked at on the way.
        before: the start's scores on the judging ones.
        after: the chosen candidate's; the start's where nothing was trained.
        steps: updates done.
        seconds: spent, earlier parts of an interrupted run included.
        stopped: why it ended.
        warnings: what was said on the way.
    """

    plan: Plan
    kept: bool
    reason: str
    curve: tuple[Point, ...]
    judging: HeldOut
    watched: HeldOut
    before: Scores
    after: Scores
    steps: int
    seconds: float
    stopped: str
    warnings: tuple[str, ...]
