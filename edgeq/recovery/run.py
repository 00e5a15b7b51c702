"""One run: watch, update, watch, ..., judge; everything that changes on its way is in the checkpoint."""

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

import torch

from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.plan.validate import validate
from edgeq.recovery import checkpoint, parallel
from edgeq.recovery.features import cuts
from edgeq.recovery.judge import Judge, candidates
from edgeq.recovery.keep import Witness, why_not_kept
from edgeq.recovery.outcome import Options, Progress, RecoveryResult
from edgeq.recovery.rates import Recipe, automatic_rate
from edgeq.recovery.samples import Inputs, Samples
from edgeq.recovery.schedule import Pace, one_cycle
from edgeq.recovery.spending import HALF, LOOKS, Outlook, affordable, reserved
from edgeq.recovery.state import State, cloned
from edgeq.recovery.stopping import GAVE_UP, Budget, Point, is_hopeless, warning, why_stop
from edgeq.recovery.teacher import Teacher
from edgeq.recovery.trainer import Trainer
from edgeq.recovery.watch import Sizes, divergence_of, selected, split
from edgeq.recovery.whereabouts import Whereabouts, whereabouts

_TRIAL_STEPS = 2
#: The speed of the float model is measured on so many samples.
_TRIAL_SAMPLES = 16
#: Nothing takes less, whatever a coarse clock says.
_TICK = 1e-6
#: Where the loss is above this multiple of the best so far, the rate is too high: back to the best, at half of it.
_LOST = 2.0
#: Later than this in the run the falling rate mends it alone.
_TOO_LATE = 0.7
#: The training loss is averaged over so many batches; that of as many first ones is what it is compared with.
_SMOOTHED = 16
#: Where it is above this multiple of the first ones', by this many standard errors, the same is done at once; only in
#: this first part of the run, since every look at so noisy a number is another chance to be wrong.
_RISEN, _SURE, _EARLY = 1.6, 4.0, 0.25


class Run:
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
        self.began = self.saved = monotonic()
        name = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.device = torch.device(name)
        stored = samples.stored()
        recipe = recipe.settled(None if stored is None else len(stored[0]))
        features = cuts(graph, plan) if recipe.features else ()
        self.teacher = Teacher(graph, self.device, features)
        self.recipe, self.checkpoint_file = recipe, checkpoint_file
        # A budget in time is never the same twice: what is left of it after an earlier training, least of all.
        fixed = budget.fixed_steps(samples.batch_size)
        self.name = checkpoint.fingerprint(
            plan, recipe, options, fixed, samples.batch_size, [len(x[0]) for x in held_out]
        )
        found = None if checkpoint_file is None else checkpoint.load(checkpoint_file, self.name)
        self.state = State(sizes=self._sizes(held_out)) if found is None else State.of(found, self.device)
        held_out, labels = selected(held_out, labels, self.state.sizes.used)
        measure = divergence_of(self.teacher, held_out, options.task)
        self.watched, self.judging = split(held_out, labels, self.teacher, measure, self.state.sizes.watched)
        variances = self.teacher.variances(held_out[0]) if features else ()
        self.trainer = Trainer(graph, plan, recipe, measure, self.device, options.layers, features, variances)
        if found is not None:
            self.trainer.load(found["trainer"])
        self.scoring = 0.0  # seconds of the newest pass over the watched samples

    def _sizes(self, held_out: Sequence[Inputs]) -> Sizes:
        """All held-out samples, or as many as a budget in time can afford."""
        count = sum(len(inputs[0]) for inputs in held_out)
        if self.budget.seconds is None or count == 0:
            return Sizes(count)
        few = tuple(x[:_TRIAL_SAMPLES] for x in held_out[0])
        for _ in range(2):  # the first one warms up
            started = monotonic()
            for outputs in self.teacher.outputs(few):
                outputs.cpu()
        per_pass = parallel.agreed(max(monotonic() - started, _TICK) / len(few[0]))
        return affordable(count, per_pass, self.budget.seconds)

    def begin(self) -> None:
        """Score the start and set the pace, unless it was resumed."""
        state = self.state
        if state.pace is None:
            self._watch(0.0)
            steps = self.budget.fixed_steps(self.samples.batch_size) or self._steps_in_time()
            state.pace, state.rate = Pace(steps), self._first_rate(steps)
        if not state.stopped:
            self.teacher.remember(self.samples, state.pace.steps)

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
        started = monotonic()
        batch = parallel.share(self.samples.batch(state.step))
        rate = state.rate * one_cycle(pace.at(state.step), self.recipe.warm_up)
        loss = self.trainer.update(state.step, batch.inputs, self.teacher.lesson(batch), rate)
        state.stepping += monotonic() - started
        state.step += 1
        if not math.isfinite(loss):
            state.stopped = f"the loss is not finite at step {state.step}"
            return
        self._see(loss, pace.at(state.step))
        if state.step >= pace.steps:
            state.stopped = "the budget is spent"

    def _see(self, loss: float, progress: float) -> None:
        """Follow the training loss; it costs nothing and tells of too high a rate long before the next watch point."""
        state = self.state
        state.losses = [*state.losses, loss][-_SMOOTHED:]
        if len(state.losses) < _SMOOTHED:
            return
        mean = sum(state.losses) / _SMOOTHED
        error = statistics.stdev(state.losses) / _SMOOTHED**0.5
        state.first_loss = state.first_loss or mean
        risen = mean > _RISEN * state.first_loss and mean - state.first_loss > _SURE * error
        if risen and progress < _EARLY:
            self._fall_back()

    def _fall_back(self) -> None:
        """To the best point, at half the rate; the optimizer's moments are of the way up and forgotten."""
        state = self.state
        self.trainer.put(state.best)
        self.trainer.forget()
        state.rate /= 2
        state.losses = []
        state.warnings.append(f"step {state.step}: the loss rose; went back to the best point, at half the rate")

    def _look(self) -> None:
        """Watch, warn, correct the pace and write a checkpoint, where it is time for it."""
        state = self.state
        assert state.pace is not None
        now, before = state.pace.at(state.step), state.pace.at(state.step - 1)
        if math.floor(now * LOOKS) > math.floor(before * LOOKS) or state.stopped:
            self._watch(now)
            if self.budget.seconds is not None and not state.stopped:
                outlook = self._outlook(now, state.stepping / state.step)
                state.pace = state.pace.corrected(state.step, outlook.left, outlook.per_step)
            self._save()
        elif monotonic() - self.saved >= self.options.checkpoint_seconds:
            self._save()

    def _watch(self, progress: float) -> None:
        state, simulation = self.state, self.trainer.simulation
        started = monotonic()
        deployed = self.watched.scores(self.trainer.outputs)
        self.scoring = monotonic() - started
        simulation.enable(weights=False, activations=False)
        latent = self.watched.scores(self.trainer.outputs)
        simulation.enable()
        flipped = self.trainer.flipped()
        where = self._whereabouts(progress)
        state.curve.append(
            Point(
                state.step, progress, deployed.mean, latent.mean, deployed.agreement, flipped, self._elapsed(),
                where.t_star, where.inward,
            )
        )  # fmt: skip
        if deployed.mean_soft < state.best_soft:
            state.best, state.best_soft = self.trainer.copy(), deployed.mean_soft
        elif deployed.mean_soft > _LOST * state.best_soft and progress < _TOO_LATE:
            self._fall_back()
        state.stopped = state.stopped or why_stop(state.curve, self.options.inside)
        demand = self.options.demand
        if demand is not None and not state.stopped and is_hopeless(state.curve, demand):
            state.stopped = GAVE_UP
        said = warning(state.curve) if not (state.stopped or state.warned) else ""
        if said:
            state.warned = True
            state.warnings.append(said)

    def _whereabouts(self, progress: float) -> Whereabouts:
        """At the start, half way and at the end; elsewhere not read."""
        curve = self.state.curve
        if curve and not (progress >= 1.0 or (progress >= HALF > curve[-1].progress)):
            return Whereabouts(math.nan, math.nan)
        plan = self.trainer.simulation.plan()
        inputs, _, _ = self.watched.batches[0]
        started = monotonic()
        found = whereabouts(self.graph, plan, inputs, self.watched.measure.task)
        self.state.locating = monotonic() - started
        return found

    def _first_rate(self, steps: int) -> float:
        if self.recipe.polyak > 0:
            return 1.0
        return self.recipe.rate if self.recipe.rate is not None else automatic_rate(steps, self.state.curve[0].deployed)

    def _steps_in_time(self) -> int:
        """How many steps the budget in time holds; the run is stopped where they are too few."""
        outlook = self._outlook(0.0, self._seconds_per_step())
        self.state.stopped = self.state.stopped or outlook.too_short()
        return max(1, int(outlook.left / outlook.per_step))

    def _seconds_per_step(self) -> float:
        """By a few steps that are undone."""
        kept = cloned(self.trainer.state())
        started = monotonic()
        for step in range(_TRIAL_STEPS + 1):
            if step == 1:
                started = monotonic()  # the first one warms up
            batch = parallel.share(self.samples.batch(step))
            self.trainer.update(step, batch.inputs, self.teacher.lesson(batch), 0.0)
        seconds = max(monotonic() - started, _TICK)
        self.trainer.load(kept)
        return seconds / _TRIAL_STEPS

    def _outlook(self, progress: float, per_step: float) -> Outlook:
        assert self.budget.seconds is not None
        rest = reserved(progress, self.scoring, self.state.locating, self.judging.count / self.watched.count)
        return Outlook(self.budget.seconds, *(parallel.agreed(x) for x in (self._elapsed(), rest, per_step)))

    def finish(self) -> RecoveryResult:
        """Choose among the candidates on the watched samples, judge on the others."""
        state = self.state
        judge = Judge(self.graph, self.device)
        before = after = judge.scores(self.plan, self.judging)
        chosen, why_not = self.plan, state.stopped
        if state.step > 0:
            method = f"{self.plan.method}+recovery" if self.plan.method else "recovery"
            plans = candidates(self.trainer, state.best, state.step, method)
            chosen, seen = judge.best(plans, self.watched)
            after = judge.scores(chosen, self.judging)
            # Chosen among the points of the curve and the moving average.
            watched = Witness(judge.scores(self.plan, self.watched), seen, len(state.curve) + 1)
            why_not = why_not_kept(Witness(before, after), watched)
        if not why_not:
            validate(self.graph, chosen)
        return RecoveryResult(
            plan=self.plan if why_not else chosen,
            kept=not why_not,
            reason=why_not or f"held-out divergence fell from {before.mean:.4g} to {after.mean:.4g}",
            curve=tuple(state.curve),
            judging=self.judging,
            watched=self.watched,
            before=before,
            after=after,
            steps=state.step,
            seconds=self._elapsed(),
            stopped=state.stopped,
            warnings=tuple(state.warnings),
        )

    def _elapsed(self) -> float:
        return self.state.seconds + monotonic() - self.began

    def _save(self) -> None:
        self.saved = monotonic()
        if self.checkpoint_file is None or not parallel.first():
            return
        checkpoint.save(self.checkpoint_file, self.name, self.state.content(self._elapsed(), self.trainer.state()))
