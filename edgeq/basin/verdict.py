"""The verdict: inside, slope, exit, far or broken, each with its evidence.

Rules, in order. *Repaired* is the candidate after its layers' output statistics were re-estimated, where that helps.
1. broken: an output is not finite, or weights and activations of 8 bits are at chance level: a fault of the
   implementation or of the calibration, never a matter of basins.
2. inside: the candidate as given changes too few decisions to lose more than is tolerated, or is low enough and its
   changed decisions cost too little (E).
3. slope: high, but rounding cures it: the repaired candidate is inside (a statistics shift), or a trial of better
   rounding on the same grid ends low enough. Where no trial is made: no wall was met on the way.
4. exit: rounding does not reach the basin, and from the lowest state so far training does: the gradient there points
   inward, and a few steps end low enough.
5. far: neither comes back: more bits or a finer grid where the blame lies.

Why trials and not the path alone: a wall (the steepest local exponent, R) tells how the float model's curvature
misjudges the candidate, and that is what blinds rounding methods built on it. A layer-by-layer method that feeds the
error of earlier layers into the next one's target measures the quantized model itself, and was seen to return from
behind the wall. What a remedy will bring is therefore tried, in small and on held-out samples, wherever it can be.
Low enough is either absolute or a share of how high the candidate stood: who lost 80 points is glad of 75.

The thresholds are fitted on the fitting models of ``benchmarks/diagnostic`` and judged on its held-out ones; the
numbers and what they reach are in ``docs/diagnostic.md``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgeq.task import Task

Name = Literal["inside", "slope", "exit", "far", "broken"]
VERDICTS: tuple[Name, ...] = ("inside", "slope", "exit", "far", "broken")
#: What did it; four of them are a slope.
Kind = Literal["inside", "statistics", "rounding", "rounded", "activations", "exit", "far", "broken"]
_NAMES: Mapping[Kind, Name] = {
    "inside": "inside",
    "statistics": "slope",
    "rounding": "slope",
    "rounded": "slope",
    "activations": "slope",
    "exit": "exit",
    "far": "far",
    "broken": "broken",
}


@dataclass(frozen=True)
class Thresholds:
    """Where one verdict ends and the next begins.

    Attributes:
        tolerated: the drop that may be lost, as a share of the decisions.
        tau: the altitude that bounds the basin in pictures, widths and t*, nats a decision.
        tau_values: the same for outputs that are not classes, relative squared error.
        inside: the altitude under which a candidate is inside whatever A's bound says.
        inside_changed: A under which a candidate of that altitude is inside,
        inside_lost: if besides E is under this.
        values: the relative squared error under which outputs that are no classes are inside, or cured by a trial.
        bowl_ratio: R above which the weights have left the quadratic region.
        wall: the steepest local exponent above which a wall was met.
        chance: share of a uniform guess's altitude above which the outputs say nothing.
        rounded: the altitude under which a trial of better rounding has cured the candidate,
        rounded_share: or the share of the candidate's altitude (at most a uniform guess's).
        trained: the altitude under which the probe of training has shown the way back,
        trained_share: or the share of the candidate's altitude (at most a uniform guess's).
    """

    tolerated: float = 0.01
    tau: float = 0.05
    tau_values: float = 0.05
    inside: float = 0.01997
    inside_changed: float = 0.03
    inside_lost: float = 0.006
    values: float = 0.02606
    bowl_ratio: float = 3.0
    wall: float = 3.2
    chance: float = 0.35
    rounded: float = 0.07
    rounded_share: float = 0.08
    trained: float = 0.035
    trained_share: float = 0.25

    def tau_of(self, task: Task) -> float:
        """The altitude that bounds the basin for a task."""
        return self.tau_values if task == "values" else self.tau


@dataclass(frozen=True)
class Facts:
    """The numbers of one state on which the verdict rests.

    Attributes:
        D: altitude.
        A: share of changed decisions, None where there are none.
        A_upper: its upper bound.
        E: what they cost by the float model's own probabilities, None where there are none.
        E_upper: its upper bound.
        R: D over what the curvature predicts.
        steepest: the largest local exponent up to the deployed point.
        inward: I, None if it was not taken.
        chance: altitude of a uniform guess.
        activations_share: share of D that the activations add.
    """

    D: float
    A: float | None
    A_upper: float | None
    R: float
    steepest: float
    inward: float | None
    chance: float
    activations_share: float = 0.0
    E: float | None = None
    E_upper: float | None = None


@dataclass(frozen=True)
class Trials:
    """Held-out altitudes that remedies reached in small; None where one was not tried.

    Attributes:
        rounded: after better rounding on the same grid.
        trained: the best after a few STE steps.
        start: the state from which those steps were tried, the lowest of all; None for the better of the candidate as
            given and repaired.
    """

    rounded: float | None = None
    trained: float | None = None
    start: Facts | None = None


@dataclass(frozen=True)
class Verdict:
    """What is wrong.

    Attributes:
        kind: what the remedies are chosen by. Of a slope: the *statistics* have shifted; *rounding* can be better; the
            candidate is *rounded* as near as rounding comes; the *activations*' grids add most. Else the name.
        cause: the same in one line, for people.
        evidence: the numbers that decided, one line each.
    """

    kind: Kind
    cause: str
    evidence: tuple[str, ...] = ()

    @property
    def name(self) -> Name:
        """Inside, slope, exit, far or broken."""
        return _NAMES[self.kind]


def is_inside(facts: Facts, task: Task, thresholds: Thresholds) -> bool:
    """Whether the candidate can be shipped as it is."""
    if not np.isfinite(facts.D):
        return False
    if task == "values" or facts.A is None or facts.A_upper is None:
        return thresholds.values >= facts.D
    if facts.A_upper <= thresholds.tolerated:
        return True
    lost = 0.0 if facts.E is None else facts.E
    return thresholds.inside >= facts.D and thresholds.inside_changed >= facts.A and thresholds.inside_lost >= lost


def met_wall(facts: Facts, thresholds: Thresholds) -> bool:
    """Whether the path climbed a wall on its way."""
    steep = np.isfinite(facts.steepest) and facts.steepest > thresholds.wall
    return bool(steep) or thresholds.bowl_ratio < facts.R


def has_saturated(facts: Facts, thresholds: Thresholds) -> bool:
    """Whether the outputs say nothing any more, whatever the path was like."""
    return thresholds.chance * facts.chance < facts.D


def rounding_cures(raw: Facts, trials: Trials, task: Task, thresholds: Thresholds) -> bool:
    """Whether the trial of better rounding came low enough."""
    lowest = thresholds.values if task == "values" else thresholds.rounded
    limit = max(lowest, thresholds.rounded_share * _height(raw))
    return trials.rounded is not None and trials.rounded <= limit


def training_cures(raw: Facts, start: Facts, trials: Trials, task: Task, thresholds: Thresholds) -> bool:
    """Whether the probe says that a short QAT from its start will recover the candidate."""
    if trials.trained is None or start.inward is None or start.inward <= 0:
        return False
    lowest = thresholds.values if task == "values" else thresholds.trained
    return trials.trained <= max(lowest, thresholds.trained_share * _height(raw))


def _height(raw: Facts) -> float:
    """The candidate's altitude; above a uniform guess, more altitude is no more loss."""
    return min(raw.D, raw.chance)


def is_broken(facts: Facts, least_bits: int) -> bool:
    """Whether a fault and not a grid is to blame."""
    return not np.isfinite(facts.D) or (least_bits >= 8 and facts.chance < facts.D)


def decide(
    raw: Facts, repaired: Facts | None, trials: Trials, *, task: Task, least_bits: int, thresholds: Thresholds
) -> Verdict:
    """The verdict, still without its evidence.

    Args:
        raw: the candidate as given.
        repaired: after the statistics repair, or None where it did not help.
        trials: what remedies reached in small.
        task: what the outputs are.
        least_bits: the fewest bits of any weight or activation.
        thresholds: the rules' numbers.
    """
    if is_broken(raw, least_bits):
        what = f"chance level with {least_bits} bits" if np.isfinite(raw.D) else "outputs are not finite"
        return Verdict("broken", f"{what}: a fault of the model or its calibration, not of the grid")
    if is_inside(raw, task, thresholds):
        return Verdict("inside", "the deployed point lies in the float model's basin")
    best = raw if repaired is None else repaired
    if repaired is not None and is_inside(repaired, task, thresholds):
        cause = "a shift of the layers' output statistics, which re-estimating them undoes"
        return Verdict("statistics", cause)
    wall = met_wall(best, thresholds) or has_saturated(best, thresholds)
    behind = "behind a wall of the basin, yet" if wall else "high, but within the quadratic region:"
    if trials.rounded is not None:
        if rounding_cures(raw, trials, task, thresholds):
            if trials.rounded >= raw.D:
                cause = f"{behind} as near as rounding comes; a short training, or more bits, may come nearer"
                return Verdict("rounded", cause)
            return Verdict("rounding", f"{behind} better rounding on the same grid comes back")
    elif not wall:
        if best.activations_share > 0.5:
            cause = "the activations' grids: better ranges, equalization or more activation bits help"
            return Verdict("activations", cause)
        return Verdict("rounding", f"{behind} better rounding helps")
    if training_cures(raw, trials.start or best, trials, task, thresholds):
        cause = "the grid put the weights out of the basin; rounding does not find the way back, training does"
        return Verdict("exit", cause)
    return Verdict("far", "far outside of the basin: a short training does not find the way back")
