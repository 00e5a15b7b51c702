"""Recovery: short quantization-aware training from any plan, without labels, that is never worse.

1. Score the start on held-out samples; stop at once if it is inside the basin.
2. Measure how many steps the budget holds.
3. Train with the float model as teacher (``trainer``), the rate rising and falling once (``schedule``).
4. At some points of the way: deployed and latent loss on the watched half of the held-out samples; stop inside the
   basin; warn early; correct the pace; write a checkpoint.
5. Candidates: where it ended, the moving average, the best point seen. The watched half chooses.
6. The judging half, not used before, compares the chosen plan with the start; only a significant gain is kept.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from edgeq.basin.divergence import Divergence, Task, guess_task
from edgeq.errors import DataError
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.plan.validate import validate
from edgeq.recovery import checkpoint, parallel
from edgeq.recovery.features import cuts
from edgeq.recovery.logits import as_outputs, leave_softmax
from edgeq.recovery.rates import Recipe, automatic_rate
from edgeq.recovery.samples import Inputs, Samples
from edgeq.recovery.schedule import Pace, one_cycle
from edgeq.recovery.stopping import INSIDE, Budget, Point, warning, why_stop
from edgeq.recovery.teacher import Teacher, laid_out
from edgeq.recovery.trainer import Trainer
from edgeq.recovery.watch import HeldOut, Scores, split, why_not_kept
from edgeq.simulate import Simulation

_WATCHES = 8
_TRIAL_STEPS = 3
#: Where the loss is above this multiple of the best so far, the rate is too high: back to the best, at half of it.
_LOST = 2.0
#: Later than this in the run the falling rate mends it alone.
_TOO_LATE = 0.7


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
        device: None takes a GPU if there is one.
        checkpoint_seconds: a checkpoint is written at the watch points, and when this long has passed without one.
    """

    task: Task | None = None
    layers: frozenset[str] | None = None
    inside: float = INSIDE
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
        before: the start's scores on the judging half of the held-out samples.
        after: the chosen candidate's.
        steps: updates done.
        seconds: spent, earlier parts of an interrupted run included.
        stopped: why it ended.
        warnings: what was said on the way.
    """

    plan: Plan
    kept: bool
    reason: str
    curve: tuple[Point, ...]
    before: Scores
    after: Scores
    steps: int
    seconds: float
    stopped: str
    warnings: tuple[str, ...]


def recover(
    graph: Graph,
    plan: Plan,
    samples: Samples,
    held_out: Sequence[Inputs],
    budget: Budget,
    *,
    labels: Sequence[torch.Tensor] | None = None,
    recipe: Recipe | None = None,
    options: Options | None = None,
    checkpoint_file: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> RecoveryResult:
    """Train the plan's scales, codes and biases; give back the better of it and the start.

    Equal arguments give equal results, whether interrupted and resumed or not; a budget in time gives as many steps as
    the machine makes of it.

    Args:
        graph: the float model, the teacher.
        plan: the start, of any method.
        samples: unlabelled, to train on.
        held_out: unlabelled batches, disjoint from ``samples``; some hundreds of samples.
        budget: how long.
        labels: of the held-out samples, batch by batch: they only judge.
        recipe: how fast everything learns.
        options: the rest.
        checkpoint_file: written as it goes; if it is there already, the run goes on from it.
        progress: called after each update.

    Raises:
        DataError: too few samples, or samples that do not fit the model.
        UsageError: the checkpoint belongs to another run.
        PlanError: the recovered plan breaks a rule (a fault of edgeq).
    """
    run = _Run(
        graph, plan, samples, held_out, labels, budget, recipe or Recipe(), options or Options(), checkpoint_file
    )
    run.begin()
    run.train(progress)
    return run.finish()


@dataclass
class _State:
    """What changes besides the trainer; all of it is in the checkpoint."""

    step: int = 0
    seconds: float = 0.0
    stopped: str = ""
    curve: list[Point] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    warned: bool = False
    best: list[torch.Tensor] = field(default_factory=list)
    best_divergence: float = math.inf
    rate: float = 0.0
    pace: Pace | None = None


class _Run:
    """One recovery, from the start to the judgement."""

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        samples: Samples,
        held_out: Sequence[Inputs],
        labels: Sequence[torch.Tensor] | None,
        budget: Budget,
        recipe: Recipe,
        options: Options,
        checkpoint_file: Path | None,
    ) -> None:
        self.graph, self.plan, self.samples, self.budget, self.options = graph, plan, samples, budget, options
        self.began = time.monotonic()
        name = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.device = torch.device(name)
        features = cuts(graph, plan) if recipe.features > 0 else ()
        self.teacher = Teacher(graph, self.device, features)
        measure = _divergence(self.teacher, held_out, options.task)
        self.watched, self.judging = split(held_out, labels, self.teacher, measure)
        self.trainer = Trainer(graph, plan, recipe, measure, self.device, options.layers, features)
        self.recipe, self.checkpoint_file = recipe, checkpoint_file
        self.name = checkpoint.fingerprint(
            plan, recipe, options, budget, samples.batch_size, [len(x[0]) for x in held_out]
        )
        self.state = _State()
        self.saved = time.monotonic()

    def begin(self) -> None:
        """Resume, or score the start and set the pace."""
        found = checkpoint.load(self.checkpoint_file, self.name) if self.checkpoint_file is not None else None
        if found is not None:
            self._load(found)
        else:
            self._watch(0.0)
            self.state.rate = self._first_rate()
            steps = self.budget.fixed_steps(self.samples.batch_size)
            self.state.pace = Pace(steps if steps is not None else self._measured_steps())
        assert self.state.pace is not None
        self.teacher.remember(self.samples, self.state.pace.steps)

    def train(self, report: Callable[[Progress], None] | None) -> None:
        """Update until the budget is spent or there is a reason to stop."""
        state = self.state
        first_step, first_second = state.step, self._elapsed()
        while not state.stopped:
            assert state.pace is not None
            self._update(state.pace)
            self._look()
            if report is not None and parallel.first():
                assert state.pace is not None
                left = state.pace.steps - state.step
                seconds = self._elapsed()
                per_step = (seconds - first_second) / (state.step - first_step)
                report(Progress(state.step, state.pace.steps, seconds, per_step * left, state.curve[-1]))

    def _update(self, pace: Pace) -> None:
        state = self.state
        batch = parallel.share(self.samples.batch(state.step))
        rate = state.rate * one_cycle(pace.at(state.step), self.recipe.warm_up)
        loss = self.trainer.update(state.step, batch.inputs, self.teacher.lesson(batch), rate)
        state.step += 1
        if not math.isfinite(loss):
            state.stopped = f"the loss is not finite at step {state.step}"
        elif state.step >= pace.steps:
            state.stopped = "the budget is spent"

    def _look(self) -> None:
        """Watch, warn, correct the pace and write a checkpoint, where it is time for it."""
        state = self.state
        assert state.pace is not None
        now, before = state.pace.at(state.step), state.pace.at(state.step - 1)
        if math.floor(now * _WATCHES) > math.floor(before * _WATCHES) or state.stopped:
            self._watch(now)
            if self.budget.seconds is not None and not state.stopped:
                elapsed = parallel.agreed(self._elapsed())
                state.pace = state.pace.corrected(state.step, self.budget.seconds - elapsed, elapsed / state.step)
            self._save()
        elif time.monotonic() - self.saved >= self.options.checkpoint_seconds:
            self._save()

    def _watch(self, progress: float) -> None:
        state, simulation = self.state, self.trainer.simulation
        deployed = self.watched.scores(self.trainer.outputs)
        simulation.enable(weights=False, activations=False)
        latent = self.watched.scores(self.trainer.outputs)
        simulation.enable()
        flipped = self.trainer.flipped()
        state.curve.append(
            Point(state.step, progress, deployed.mean, latent.mean, deployed.agreement, flipped, self._elapsed())
        )
        if deployed.mean < state.best_divergence:
            state.best, state.best_divergence = self.trainer.copy(), deployed.mean
        elif deployed.mean > _LOST * state.best_divergence and progress < _TOO_LATE:
            self.trainer.put(state.best)
            state.rate /= 2
            state.warnings.append(f"step {state.step}: the loss rose; went back to the best point, at half the rate")
        state.stopped = state.stopped or why_stop(state.curve, self.options.inside)
        said = warning(state.curve) if not (state.stopped or state.warned) else ""
        if said:
            state.warned = True
            state.warnings.append(said)

    def _first_rate(self) -> float:
        if self.recipe.polyak > 0:
            return 1.0
        return self.recipe.rate if self.recipe.rate is not None else automatic_rate(self.state.best_divergence)

    def _measured_steps(self) -> int:
        """How many steps the time budget holds, by a few steps that are undone."""
        assert self.budget.seconds is not None
        state = self.trainer.state()
        kept = {key: _cloned(value) for key, value in state.items()}
        started = time.monotonic()
        for step in range(_TRIAL_STEPS + 1):
            if step == 1:
                started = time.monotonic()  # the first one warms up
            batch = parallel.share(self.samples.batch(step))
            self.trainer.update(step, batch.inputs, self.teacher.lesson(batch), 0.0)
        per_step = (time.monotonic() - started) / _TRIAL_STEPS
        self.trainer.load(kept)
        watching = self.state.curve[0].seconds * _WATCHES / 4
        left = self.budget.seconds - self._elapsed() - min(watching, self.budget.seconds / 4)
        return int(parallel.agreed(max(1, int(left / per_step))))

    def finish(self) -> RecoveryResult:
        """Choose among the candidates on the watched half, judge on the other."""
        state = self.state
        before = self._judge(self.plan, self.judging)
        chosen = self._chosen()
        after = self._judge(chosen, self.judging)
        why_not = why_not_kept(before, after)
        if not why_not:
            validate(self.graph, chosen)
        return RecoveryResult(
            plan=self.plan if why_not else chosen,
            kept=not why_not,
            reason=why_not or f"held-out divergence fell from {before.mean:.4g} to {after.mean:.4g}",
            curve=tuple(state.curve),
            before=before,
            after=after,
            steps=state.step,
            seconds=self._elapsed(),
            stopped=state.stopped,
            warnings=tuple(state.warnings),
        )

    def _chosen(self) -> Plan:
        method = f"{self.plan.method}+recovery" if self.plan.method else "recovery"
        plans = [self.trainer.simulation.plan(method)]
        if self.recipe.average > 0 and self.state.step > 0:
            with self.trainer.average.applied():
                plans.append(self.trainer.simulation.plan(method))
        if self.state.best:
            self.trainer.put(self.state.best)
            plans.append(self.trainer.simulation.plan(method))
        scores = [self._judge(plan, self.watched).mean for plan in plans]
        finite = [score if math.isfinite(score) else math.inf for score in scores]
        return plans[finite.index(min(finite))]

    def _judge(self, plan: Plan, samples: HeldOut) -> Scores:
        # A simulation made anew from the plan: what is judged is what will be exported, latent weights forgotten.
        simulation = Simulation(self.graph, plan)
        leave_softmax(simulation.module)
        simulation.to(self.device)
        return samples.scores(lambda inputs: as_outputs(simulation(*(laid_out(x, self.device) for x in inputs))))

    def _elapsed(self) -> float:
        return self.state.seconds + time.monotonic() - self.began

    def _save(self) -> None:
        self.saved = time.monotonic()
        if self.checkpoint_file is None or not parallel.first():
            return
        state, pace = self.state, self.state.pace
        assert pace is not None
        content: dict[str, Any] = {
            "trainer": self.trainer.state(),
            "step": state.step,
            "seconds": self._elapsed(),
            "stopped": state.stopped,
            "curve": [asdict(point) for point in state.curve],
            "warnings": state.warnings,
            "warned": state.warned,
            "best": state.best,
            "best_divergence": state.best_divergence,
            "rate": state.rate,
            "pace": asdict(pace),
        }
        checkpoint.save(self.checkpoint_file, self.name, content)

    def _load(self, content: dict[str, Any]) -> None:
        self.trainer.load(content["trainer"])
        self.state = _State(
            step=content["step"],
            seconds=content["seconds"],
            stopped=content["stopped"],
            curve=[Point(**point) for point in content["curve"]],
            warnings=list(content["warnings"]),
            warned=content["warned"],
            best=[value.to(self.device) for value in content["best"]],
            best_divergence=content["best_divergence"],
            rate=content["rate"],
            pace=Pace(**content["pace"]),
        )


def _divergence(teacher: Teacher, held_out: Sequence[Inputs], task: Task | None) -> Divergence:
    if not held_out:
        raise DataError("recovery needs held-out samples to judge by: some hundreds, apart from those it trains on")
    outputs = [teacher.outputs(inputs) for inputs in held_out]
    if not all(bool(torch.isfinite(x).all()) for batch in outputs for x in batch):
        raise DataError("the float model's outputs are not finite on the held-out samples; look at the samples' scale")
    chosen = task or guess_task(held_out[0], outputs[0])
    return Divergence(chosen, _variances(outputs) if chosen == "values" else ())


def _variances(outputs: Sequence[tuple[torch.Tensor, ...]]) -> tuple[float, ...]:
    joined = [torch.cat([batch[i].flatten(1) for batch in outputs]).double() for i in range(len(outputs[0]))]
    return tuple(max(float((z - z.mean(0)).square().mean()), 1e-12) for z in joined)


def _cloned(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _cloned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_cloned(item) for item in value)
    return value


__all__ = ["Options", "Progress", "RecoveryResult", "recover"]
