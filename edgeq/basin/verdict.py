"""The verdict: inside, slope, exit, far or broken, each with its evidence and its remedy.

Rules, in order. *Repaired* is the candidate after its layers' output statistics were re-estimated, where that helps.
1. broken: an output is not finite, or 8-bit weights (and activations) are at chance level: a fault of the
   implementation or of the calibration, never a matter of basins.
2. inside: the candidate as given changes too few decisions to lose more than is tolerated, or is too low to.
3. slope: high, but the repaired candidate is inside (a statistics shift), or no wall was met on its way: the
   second-order model holds, so better rounding, ranges and equalization help.
4. exit: a wall was met (the steepest local exponent of the repaired path, or R), and a few STE steps lower the held-out
   altitude: short QAT will recover it, second-order rounding is blind to it.
5. far: a wall was met and the probe does not come back: more bits or a finer grid where the blame lies.

The thresholds are fitted on the fitting models of ``benchmarks/diagnostic`` and judged on its held-out ones; the
numbers and what they reach are in ``docs/diagnostic.md``.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgeq.basin.divergence import Task
from edgeq.basin.probe import Probe
from edgeq.basin.reading import Reading

Name = Literal["inside", "slope", "exit", "far", "broken"]
VERDICTS: tuple[Name, ...] = ("inside", "slope", "exit", "far", "broken")


@dataclass(frozen=True)
class Thresholds:
    """Where one verdict ends and the next begins.

    Attributes:
        tolerated: the drop that may be lost, as a share of the decisions.
        tau: the altitude that bounds the basin in pictures, widths and t*, nats a decision.
        tau_values: the same for outputs that are not classes, relative squared error.
        inside: the altitude under which a candidate is inside whatever A's bound says.
        inside_changed: A under which a candidate of that altitude is inside.
        bowl_ratio: R above which the weights have left the quadratic region.
        wall: the steepest local exponent above which a wall was met.
        fall: share of the altitude that the probe must take away on held-out samples for `exit`.
        chance: share of a uniform guess's altitude above which the outputs say nothing.
    """

    tolerated: float = 0.01
    tau: float = 0.05
    tau_values: float = 0.05
    inside: float = 0.02
    inside_changed: float = 0.05
    bowl_ratio: float = 1.5
    wall: float = 2.4
    fall: float = 0.2
    chance: float = 0.7

    def tau_of(self, task: Task) -> float:
        """The altitude that bounds the basin for a task."""
        return self.tau_values if task == "values" else self.tau


@dataclass(frozen=True)
class Verdict:
    """What is wrong.

    Attributes:
        name: inside, slope, exit, far or broken.
        cause: what did it, in one line.
        evidence: the numbers that decided, one line each.
    """

    name: Name
    cause: str
    evidence: tuple[str, ...]


def is_inside(reading: Reading, task: Task, thresholds: Thresholds) -> bool:
    """Whether the candidate can be shipped as it is."""
    if not reading.finite:
        return False
    if reading.A is None:
        return reading.D.estimate <= thresholds.tau_values
    if reading.A.upper <= thresholds.tolerated:
        return True
    return reading.D.estimate <= thresholds.inside and reading.A.changed <= thresholds.inside_changed


def met_wall(reading: Reading, thresholds: Thresholds) -> bool:
    """Whether the path climbed a wall, or has saturated behind one."""
    steep = np.isfinite(reading.steepest) and reading.steepest > thresholds.wall
    saturated = reading.D.estimate > thresholds.chance * reading.chance
    return bool(steep) or reading.R.estimate > thresholds.bowl_ratio or saturated


def is_broken(reading: Reading, least_bits: int) -> bool:
    """Whether a fault and not a grid is to blame."""
    return not reading.finite or (least_bits >= 8 and reading.D.estimate > reading.chance)


def decide(
    raw: Reading, repaired: Reading | None, trial: Probe | None, *, task: Task, least_bits: int, thresholds: Thresholds
) -> Verdict:
    """The verdict.

    Args:
        raw: the candidate as given.
        repaired: after the statistics repair, or None where it did not help.
        trial: the probe from the better of both, or None where none was run.
        task: what the outputs are.
        least_bits: the fewest bits of any weight or activation.
        thresholds: the rules' numbers.
    """
    if is_broken(raw, least_bits):
        what = "outputs are not finite" if not raw.finite else f"chance level with {least_bits} bits"
        return Verdict("broken", f"{what}: a fault of the model or its calibration, not of the grid", _facts(raw))
    if is_inside(raw, task, thresholds):
        return Verdict("inside", "the deployed point lies in the float model's basin", _facts(raw))
    best = raw if repaired is None else repaired
    evidence = _facts(raw) if repaired is None else (*_facts(raw), *_facts(repaired, "repaired: "))
    if repaired is not None and is_inside(repaired, task, thresholds):
        return Verdict("slope", "a shift of the layers' output statistics, which re-estimating them undoes", evidence)
    if not met_wall(best, thresholds):
        cause = "high, but inside the quadratic region: better rounding helps"
        if best.activations_share > 0.5:
            cause = "the activations' grids: better ranges, equalization or more activation bits help"
        return Verdict("slope", cause, evidence)
    if trial is not None:
        evidence = (*evidence, _trial(trial))
    returns = trial is not None and trial.fall >= thresholds.fall
    if returns and best.I is not None and best.I.value > 0:
        return Verdict("exit", "the grid put the weights beyond the basin's wall; the way back is short", evidence)
    return Verdict("far", "far outside of the basin: a short training does not find the way back", evidence)


def _facts(reading: Reading, prefix: str = "") -> tuple[str, ...]:
    low, high = reading.D.low, reading.D.high
    found = [
        f"{prefix}D {reading.D.estimate:.3g} [{low:.3g}, {high:.3g}] against {reading.chance:.2g} of a guess",
        f"{prefix}steepest exponent {reading.steepest:.2f}, at the end {reading.p.estimate:.2f} (a bowl has 2); "
        f"R {reading.R.estimate:.2f}; t* {reading.t_star:.2f}",
    ]
    if reading.A is not None:
        bound = f"at most {100 * reading.A.upper:.1f} %"
        found.insert(1, f"{prefix}{100 * reading.A.changed:.1f} % of {reading.A.decisions} decisions changed, {bound}")
    if reading.activations_share > 0.05:
        found.append(f"{prefix}quantized activations add {100 * reading.activations_share:.0f} % of D")
    return tuple(found)


def _trial(trial: Probe) -> str:
    curve = " -> ".join(f"{value:.3g}" for value in trial.deployed)
    return f"probe of {trial.steps[-1]} steps, held-out D {curve}, {100 * trial.flipped:.1f} % of the codes flipped"
