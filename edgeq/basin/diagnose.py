"""The diagnosis: which quantities are taken, in which order, at which cost.

1. the float outputs on the probe samples, once (and the time of that pass prices all that follows);
2. the reading of the candidate as given; if it is inside, only the layers' widths follow;
3. the statistics repair, and the reading of the repaired candidate; kept if D falls on the probe samples;
4. dither, the trial of better rounding (if one is given), and the probe, from the better of both;
5. blame and basin width of every layer.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from edgeq.basin.blame import POINTS_PER_HALF, Blame, blame
from edgeq.basin.dither import TRIALS, dither
from edgeq.basin.divergence import Reference, Task, altitude, refer
from edgeq.basin.evidence import evidence
from edgeq.basin.landscape import Batches, Landscape, Point
from edgeq.basin.path import GRID
from edgeq.basin.probe import CHECKS, STEPS, Probe, probe
from edgeq.basin.reading import Reading, read
from edgeq.basin.verdict import Thresholds, Trials, Verdict, decide, is_inside
from edgeq.basin.width import Width, width

#: Gives the same candidate with its statistics repaired.
Repair = Callable[[Landscape], Landscape]
#: Gives the same model with its weights rounded better, on grids of the same bits and granularity.
Rounding = Callable[[], Landscape]
#: (what is being done, passes done, passes in all)
Progress = Callable[[str, float, float], None]
_GRADIENT = 3.0  # a pass with gradients costs about three without
_WIDTH_EVALUATIONS = 5
#: Multiply-accumulates of one forward pass over all probe samples that are spent without asking.
_AFFORDABLE = 20 * 10**9
FEWEST_SAMPLES, MOST_SAMPLES = 48, 256


@dataclass(frozen=True)
class Options:
    """What to take and how thoroughly.

    Attributes:
        task: classes, tokens or values; None guesses from the outputs.
        thresholds: the rules' numbers.
        steps: of the probe; 0 leaves it out.
        batch: samples in one step of the probe.
        layers: whether blame and widths are taken.
        blame_samples: samples for the blame.
        width_samples: samples for the widths.
        seed: of everything random.
    """

    task: Task | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    steps: int = STEPS
    batch: int = 32
    layers: bool = True
    blame_samples: int = 64
    width_samples: int = 32
    seed: int = 0

    @classmethod
    def for_size(cls, macs: int, task: Task | None, thresholds: Thresholds, seed: int = 0) -> "tuple[Options, int]":
        """The options and the number of probe samples for a model of that many multiply-accumulates.

        A model of EfficientNet's size gets fewer samples, so that its diagnosis takes minutes and not an hour. That
        depends on the model alone, never on the machine's speed: the same inputs give the same verdict everywhere.
        """
        samples = int(min(max(_AFFORDABLE // max(macs, 1), FEWEST_SAMPLES), MOST_SAMPLES))
        if samples == MOST_SAMPLES:
            return cls(task, thresholds, seed=seed), samples
        return cls(task, thresholds, batch=8, blame_samples=32, width_samples=8, seed=seed), samples


@dataclass(frozen=True)
class Cost:
    """What the diagnosis costs at most.

    Attributes:
        passes: samples run forward, or their equivalent.
        seconds: at the speed of the first pass.
    """

    passes: int
    seconds: float


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
class Diagnosis:
    """All that was found.

    Attributes:
        verdict: what is wrong.
        task: what the outputs are.
        raw: the candidate as given.
        repaired: after the statistics repair, or None where it was not tried or did not help.
        dither: D of stochastic roundings of the better of both.
        rounded: D after the trial of better rounding, or None where none was made.
        rounded_point: where it ended.
        probe: the trial of training, or None where none was needed.
        layers: worst blame first.
        blame: the shares and their sum, or None.
        landscape: the better of the candidate as given and repaired, for pictures.
        samples: probe samples used.
        accuracy: share of right decisions of the float model, the candidate as given and repaired; None without labels.
        cost: what was promised; ``seconds`` what it took.
        seconds: wall time.
    """

    verdict: Verdict
    task: Task
    raw: Reading
    repaired: Reading | None
    dither: tuple[float, ...]
    rounded: float | None
    rounded_point: Point | None
    probe: Probe | None
    layers: tuple[LayerReading, ...]
    blame: Blame | None
    landscape: Landscape
    samples: int
    accuracy: dict[str, float] | None
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
        labels: of the probe samples, to state the task's accuracy beside; nothing else is derived from them.
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
    cost = price(landscape, reference, options, time.perf_counter() - started, repairs=repair is not None)
    if announce is not None:
        announce(cost)
    work = _Work(landscape, reference, options, cost, progress)
    raw = work.read(landscape)
    task, rules = reference.divergence.task, options.thresholds
    healthy = is_inside(raw.facts, task, rules) or not raw.finite
    repaired, fixed = (None, landscape) if healthy or repair is None else work.repaired(repair, raw)
    trial: Probe | None = None
    dithered: tuple[float, ...] = ()
    rounded: float | None = None
    rounded_point: Point | None = None
    if not healthy:
        dithered = work.dither(fixed)
    if not healthy and not (repaired is not None and is_inside(repaired.facts, task, rules)):
        if rounding is not None:
            rounded, rounded_point = work.rounded(rounding, repair)
        trial = work.probe(fixed, training) if len(training) and options.steps else None
    verdict = decide(
        raw.facts,
        None if repaired is None else repaired.facts,
        Trials(rounded, None if trial is None else trial.best),
        task=task,
        least_bits=min(layer.bits for layer in landscape.layers),
        thresholds=rules,
    )
    shares, layers = work.layers(fixed) if options.layers and raw.finite else (None, ())
    return Diagnosis(
        verdict=replace(verdict, evidence=evidence(raw, repaired, rounded, trial)),
        task=task,
        raw=raw,
        repaired=repaired,
        dither=dithered,
        rounded=rounded,
        rounded_point=rounded_point,
        probe=trial,
        layers=layers,
        blame=shares,
        landscape=fixed,
        samples=len(reference),
        accuracy=None if labels is None or task == "values" else _accuracy(reference, raw, repaired, labels),
        cost=cost,
        seconds=time.perf_counter() - started,
    )


def _accuracy(
    reference: Reference, raw: Reading, repaired: Reading | None, labels: npt.NDArray[np.integer]
) -> dict[str, float]:
    chosen = [reference.divergence.decisions(z0) for z0 in reference.outputs]
    decided = {"float": torch.cat([c for c in chosen if c is not None]).numpy(), "candidate": raw.path.decisions}
    if repaired is not None:
        decided["repaired"] = repaired.path.decisions
    flat = labels.reshape(len(labels), -1)
    return {state: float((d == flat).mean()) for state, d in decided.items() if d is not None and d.shape == flat.shape}


def price(landscape: Landscape, reference: Reference, options: Options, first_pass: float, *, repairs: bool) -> Cost:
    """What the diagnosis costs at most, from the time of the first pass over the samples."""
    count = len(reference)
    reading = count * (len(GRID) * (1 + landscape.activations) + 2 + _GRADIENT)
    passes = reading * (1 + repairs) + count * TRIALS
    if options.steps:
        passes += options.steps * options.batch * _GRADIENT + 2 * (CHECKS + 1) * count
    if options.layers:
        passes += min(count, options.blame_samples) * 2 * POINTS_PER_HALF * _GRADIENT
        passes += min(count, options.width_samples) * _WIDTH_EVALUATIONS * len(landscape.layers)
    return Cost(round(passes), passes * first_pass / count)


class _Work:
    """The steps of one diagnosis, with their progress."""

    def __init__(
        self, landscape: Landscape, reference: Reference, options: Options, cost: Cost, progress: Progress | None
    ) -> None:
        self.landscape, self.reference, self.options = landscape, reference, options
        self.cost, self.progress, self.done = cost, progress, 0.0
        self.tau = options.thresholds.tau_of(reference.divergence.task)

    def _say(self, what: str, passes: float) -> None:
        if self.progress is not None:
            self.progress(what, min(self.done, self.cost.passes), self.cost.passes)
        self.done += passes

    def read(self, landscape: Landscape, what: str = "path") -> Reading:
        self._say(what, len(self.reference) * (len(GRID) * (1 + landscape.activations) + 2 + _GRADIENT))
        return read(landscape, self.reference, self.tau, seed=self.options.seed)

    def repaired(self, repair: Repair, raw: Reading) -> tuple[Reading | None, Landscape]:
        fixed = repair(self.landscape)
        reading = self.read(fixed, "path after the statistics repair")
        helps = reading.finite and reading.D.estimate < raw.D.estimate
        return (reading, fixed) if helps else (None, self.landscape)

    def dither(self, landscape: Landscape) -> tuple[float, ...]:
        self._say("dither", len(self.reference) * TRIALS)
        return dither(landscape, self.reference, activations=landscape.activations, seed=self.options.seed)

    def rounded(self, rounding: Rounding, repair: Repair | None) -> tuple[float, Point]:
        self._say("trial of better rounding", 2 * len(self.reference))
        better = rounding()
        tried = [better] if repair is None else [better, repair(better)]
        blend = 1.0 if self.landscape.activations else 0.0
        heights = [float(altitude(state, state.deployed, self.reference, blend)[0].mean()) for state in tried]
        best = min(range(len(tried)), key=heights.__getitem__)
        return heights[best], tried[best].deployed

    def probe(self, landscape: Landscape, training: Batches) -> Probe:
        self._say("probe", self.options.steps * self.options.batch * _GRADIENT + 2 * (CHECKS + 1) * len(self.reference))
        taught = refer(landscape, training, self.reference.divergence.task)
        return probe(landscape, taught, self.reference, steps=self.options.steps, batch=self.options.batch)

    def layers(self, landscape: Landscape) -> tuple[Blame, tuple[LayerReading, ...]]:
        few = self.reference.first(self.options.blame_samples)
        self._say("blame", len(few) * 2 * POINTS_PER_HALF * _GRADIENT)
        shares = blame(landscape, few)
        fewer = self.reference.rebatched(self.options.width_samples).first(self.options.width_samples)
        found = []
        for layer in landscape.layers:
            self._say(f"width of {layer.name}", len(fewer) * _WIDTH_EVALUATIONS)
            basin = width(landscape, layer, fewer, self.tau, self.options.seed)
            found.append(LayerReading(layer.name, layer.bits, shares.by_layer[layer.name], basin))
        return shares, tuple(sorted(found, key=lambda reading: -reading.blame))
