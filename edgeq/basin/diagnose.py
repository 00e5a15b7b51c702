"""The diagnosis: which quantities are taken, in which order, at which cost.

1. the float outputs on the probe samples, once, and the price of all that follows;
2. the reading of the candidate as given; if it is inside, only the layers' widths follow;
3. the statistics repair, and the reading of the repaired candidate; kept if D falls on the probe samples;
4. dither, and the trial of better rounding (if one is given);
5. where rounding does not come back: the trial of training, from the lowest state so far;
6. blame and basin width of every layer.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from edgeq.basin.blame import POINTS_PER_HALF, Blame, blame
from edgeq.basin.cost import GRADIENT, WIDTH_EVALUATIONS, Cost, Options, layer_passes, price, reading_passes
from edgeq.basin.dither import TRIALS, dither
from edgeq.basin.divergence import Reference, altitude, refer
from edgeq.basin.evidence import evidence
from edgeq.basin.labelled import accuracies, losses
from edgeq.basin.landscape import Batches, Landscape
from edgeq.basin.probe import CHECKS, Probe, probe
from edgeq.basin.reading import Reading, read
from edgeq.basin.verdict import Trials, Verdict, decide, is_inside, rounding_cures
from edgeq.basin.width import Width, width
from edgeq.task import Task

#: Gives the same candidate with its statistics repaired.
Repair = Callable[[Landscape], Landscape]
#: Gives the same model with its weights rounded better, on grids of the same bits and granularity: as it is, repaired.
Rounding = Callable[[], tuple[Landscape, ...]]
#: (what is being done, passes done, passes in all)
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class LayerReading:
    """One layer's part.

    Attributes:
        name: the layer.
        bits: its code's width.
        blame: c_l, its share of D; NaN where it was not taken.
        width: its basin, or None where it was not taken.
    """

    name: str
    bits: int
    blame: float
    width: Width | None


@dataclass(frozen=True, eq=False)
class Rounded:
    """The trial of better rounding.

    Attributes:
        D: its altitude.
        landscape: the same model with the weights of the trial, as they are or repaired, whichever is lower.
    """

    D: float
    landscape: Landscape


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """All that was found.

    Attributes:
        verdict: what is wrong.
        task: what the outputs are.
        raw: the candidate as given.
        repaired: after the statistics repair, or None where it was not tried or did not help.
        dither: D of stochastic roundings of the better of both.
        rounded: the trial of better rounding, or None where none was made.
        probe: the trial of training, or None where none was needed.
        layers: worst blame first.
        blame: the shares and their sum, or None.
        landscape: the better of the candidate as given and repaired, for pictures.
        samples: probe samples used.
        accuracy: share of right decisions of the float model, the candidate as given and repaired; None without labels.
        loss: their cross-entropy, nats a decision; None without labels.
        cost: what was promised; ``seconds`` what it took.
        seconds: wall time.
    """

    verdict: Verdict
    task: Task
    raw: Reading
    repaired: Reading | None
    dither: tuple[float, ...]
    rounded: Rounded | None
    probe: Probe | None
    layers: tuple[LayerReading, ...]
    blame: Blame | None
    landscape: Landscape
    samples: int
    accuracy: dict[str, float] | None
    loss: dict[str, float] | None
    cost: Cost
    seconds: float

    @property
    def best(self) -> Reading:
        """The better of raw and repaired."""
        return self.raw if self.repaired is None else self.repaired


def diagnose(
    landscape: Landscape,
    samples: Batches,
    *,
    training: Batches = (),
    labels: npt.NDArray[np.integer] | None = None,
    repair: Repair | None = None,
    rounding: Rounding | None = None,
    options: Options | None = None,
    announce: Callable[[Cost], None] | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Say why the candidate got worse, who is to blame, and what will cure it.

    Args:
        landscape: float model and candidate.
        samples: unlabelled probe samples; nothing else may have been fitted to them.
        training: other unlabelled samples for the probe's steps; without them no probe is run.
        labels: of the probe samples, to state accuracy and task loss beside; nothing else is derived from them.
        repair: the statistics repair; without it only the candidate as given is judged.
        rounding: a trial of better rounding, made where the candidate is not inside; without it the path alone tells
            whether rounding will help.
        options: what to take.
        announce: told the cost before it is spent.
        progress: told what is being done.

    Raises:
        DataError: there are no samples, or the float model is not finite on them.
    """
    options = options or Options()
    started = time.perf_counter()
    reference = refer(landscape, samples, options.task)
    cost = price(landscape, reference, training, options, repairs=repair is not None, rounds=rounding is not None)
    if announce is not None:
        announce(cost)
    work = _Work(landscape, reference, options, cost, progress)
    raw = work.read(landscape)
    task, rules = reference.divergence.task, options.thresholds
    healthy = is_inside(raw.facts, task, rules) or not raw.finite
    repaired, fixed = (None, landscape) if healthy or repair is None else work.repaired(repair, raw)
    tried = _Tried() if healthy else work.tried(raw, repaired, fixed, rounding, training)
    verdict = decide(
        raw.facts,
        None if repaired is None else repaired.facts,
        tried.trials,
        task=task,
        least_bits=landscape.least_bits,
        thresholds=rules,
    )
    states, decisions = {"candidate": landscape}, {"candidate": raw.path.decisions}
    if repaired is not None:
        states["repaired"], decisions["repaired"] = fixed, repaired.path.decisions
    if task == "values":
        labels = None
    shares, layers = work.layers(fixed) if options.layers and raw.finite else (None, ())
    return Diagnosis(
        verdict=replace(verdict, evidence=evidence(raw, repaired, tried.trials.rounded, tried.probe)),
        task=task,
        raw=raw,
        repaired=repaired,
        dither=tried.dither,
        rounded=tried.rounded,
        probe=tried.probe,
        layers=layers,
        blame=shares,
        landscape=fixed,
        samples=len(reference),
        accuracy=None if labels is None else accuracies(reference, decisions, labels),
        loss=None if labels is None else losses(reference, states, labels),
        cost=cost,
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, eq=False)
class _Tried:
    """What was tried on a candidate that is not inside; see :class:`Diagnosis`."""

    dither: tuple[float, ...] = ()
    rounded: Rounded | None = None
    probe: Probe | None = None
    trials: Trials = field(default_factory=Trials)


class _Work:
    """The steps of one diagnosis, with their progress."""

    def __init__(
        self, landscape: Landscape, reference: Reference, options: Options, cost: Cost, progress: Progress | None
    ) -> None:
        self.landscape, self.reference, self.options = landscape, reference, options
        self.total, self.progress, self.done = float(cost.passes), progress, 0.0
        self.tau = options.thresholds.tau_of(reference.divergence.task)

    def _say(self, what: str, passes: float) -> None:
        if self.progress is not None:
            self.progress(what, min(self.done, self.total), self.total)
        self.done += passes

    def read(self, landscape: Landscape, what: str = "path") -> Reading:
        self._say(what, len(self.reference) * reading_passes(landscape))
        return read(landscape, self.reference, self.tau, seed=self.options.seed)

    def repaired(self, repair: Repair, raw: Reading) -> tuple[Reading | None, Landscape]:
        fixed = repair(self.landscape)
        reading = self.read(fixed, "path after the statistics repair")
        helps = reading.finite and reading.D.estimate < raw.D.estimate
        return (reading, fixed) if helps else (None, self.landscape)

    def tried(
        self,
        raw: Reading,
        repaired: Reading | None,
        fixed: Landscape,
        rounding: Rounding | None,
        training: Batches,
    ) -> _Tried:
        """Dither; better rounding unless the repair cured it; training unless rounding does."""
        task, rules = self.reference.divergence.task, self.options.thresholds
        dithered = self.dither(fixed)
        if repaired is not None and is_inside(repaired.facts, task, rules):
            return _Tried(dithered)
        rounded = None if rounding is None else self.rounded(rounding)
        trials = Trials() if rounded is None else Trials(rounded.D)
        if not len(training) or not self.options.steps or rounding_cures(raw.facts, trials, task, rules):
            return _Tried(dithered, rounded, trials=trials)
        best = raw if repaired is None else repaired
        start = fixed if rounded is None or best.D.estimate <= rounded.D else rounded.landscape
        reading = best if start is fixed else self.read(start, "path after better rounding")
        trial = self.probe(start, training)
        return _Tried(dithered, rounded, trial, replace(trials, trained=trial.best, start=reading.facts))

    def dither(self, landscape: Landscape) -> tuple[float, ...]:
        self._say("dither", len(self.reference) * TRIALS)
        return dither(landscape, self.reference, activations=landscape.activations, seed=self.options.seed)

    def rounded(self, rounding: Rounding) -> Rounded:
        self._say("trial of better rounding", 2 * len(self.reference))
        tried = rounding()
        blend = 1.0 if self.landscape.activations else 0.0
        heights = [float(altitude(state, state.deployed, self.reference, blend)[0].mean()) for state in tried]
        best = min(range(len(tried)), key=lambda i: heights[i] if np.isfinite(heights[i]) else np.inf)
        return Rounded(heights[best], tried[best])

    def probe(self, landscape: Landscape, training: Batches) -> Probe:
        self._say("probe", self.options.steps * self.options.batch * GRADIENT + 2 * (CHECKS + 1) * len(self.reference))
        taught = refer(landscape, training, self.reference.divergence.task)
        return probe(landscape, taught, self.reference, steps=self.options.steps, batch=self.options.batch)

    def layers(self, landscape: Landscape) -> tuple[Blame, tuple[LayerReading, ...]]:
        few = self.reference.first(self.options.blame_samples)
        self.total = self.done + layer_passes(landscape, len(self.reference), self.options)  # the rest is known now
        self._say("blame", len(few) * 2 * POINTS_PER_HALF * GRADIENT)
        shares = blame(landscape, few)
        fewer = self.reference.rebatched(self.options.width_samples).first(self.options.width_samples)
        found: list[LayerReading] = []
        for layer in sorted(landscape.layers, key=lambda layer: -shares.by_layer[layer.name]):
            basin: Width | None = None
            if len(found) < self.options.width_layers:
                self._say(f"width of {layer.name}", len(fewer) * WIDTH_EVALUATIONS)
                basin = width(landscape, layer, fewer, self.tau, self.options.seed)
            found.append(LayerReading(layer.name, layer.bits, shares.by_layer[layer.name], basin))
        return shares, tuple(found)
