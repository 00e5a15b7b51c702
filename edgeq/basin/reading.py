"""One state of a candidate, as given or repaired, in numbers."""

from dataclasses import dataclass

import numpy as np
import torch

from edgeq.basin.agreement import Agreement, agreement
from edgeq.basin.bootstrap import interval
from edgeq.basin.curvature import curvature
from edgeq.basin.divergence import Reference
from edgeq.basin.expected_drop import ExpectedDrop, expected_drop
from edgeq.basin.inward import Inward, inward
from edgeq.basin.landscape import Landscape
from edgeq.basin.path import Path, walk
from edgeq.basin.verdict import Facts
from edgeq.measurement import Interval


@dataclass(frozen=True, eq=False)
class Reading:
    """What the path and the deployed point say.

    Attributes:
        path: altitudes along the path that the whole candidate takes, activations included.
        weights_path: the weights alone, at t = 1; the same object as ``path`` where activations are in float.
        D: altitude of the deployed point above the float model, nats (or relative squared error).
        A: share of changed decisions, or None where the task has none.
        E: what they cost by the float model's own probabilities, or None where the task has none.
        K: what the float model's curvature predicts for D.
        R: D / K.
        p: the local exponent before the deployed point.
        I: the inward component, or None where nothing could be differentiated.
        t_star: first t beyond the altitude tau; infinity if it lies beyond the path's end.
        chance: altitude of a uniform guess.
    """

    path: Path
    weights_path: Path
    D: Interval
    A: Agreement | None
    E: ExpectedDrop | None
    K: float
    R: Interval
    p: Interval
    I: Inward | None  # noqa: E741  # the symbol of the specification
    t_star: float
    chance: float

    @property
    def finite(self) -> bool:
        """Whether the deployed outputs are finite."""
        return bool(np.isfinite(self.D.estimate))

    @property
    def weights_D(self) -> float:  # noqa: N802
        """D of the weights alone."""
        return self.weights_path.deployed

    @property
    def activations_share(self) -> float:
        """Share of D that quantized activations add; it is not cured by training weights alone."""
        total = self.D.estimate
        return max(0.0, 1 - self.weights_D / total) if total > 0 else 0.0

    @property
    def steepest(self) -> float:
        """The largest local exponent up to the deployed point, on the path of the whole candidate."""
        return self.path.steepest

    @property
    def facts(self) -> Facts:
        """The numbers that the verdict rests on."""
        return Facts(
            D=self.D.estimate,
            A=None if self.A is None else self.A.changed,
            A_upper=None if self.A is None else self.A.upper,
            E=None if self.E is None else self.E.value,
            E_upper=None if self.E is None else self.E.upper,
            R=self.R.estimate,
            steepest=self.steepest,
            inward=None if self.I is None else self.I.value,
            chance=self.chance,
            activations_share=self.activations_share,
        )

    @property
    def exit_ratio(self) -> float:
        """Grid over basin width, 1 / t*; above 1 the deployed point lies outside of the basin at altitude tau."""
        return 1 / self.t_star


def read(landscape: Landscape, reference: Reference, tau: float, *, seed: int = 0) -> Reading:
    """Take the readings: 7 forward passes for the path (one more with activations), 2 for K, 1 with gradients for I."""
    moving = landscape.activations
    path = walk(landscape, reference, activations=moving)
    weights_path = walk(landscape, reference, activations=False, ts=(1.0,)) if moving else path
    quadratic = curvature(landscape, reference, activations=False)
    at_one, before = path.ts.index(1.0), path.ts.index(1.0) - 1
    ratio = np.log(path.ts[at_one] / path.ts[before])
    rows = np.stack(
        [path.samples[at_one], path.samples[before], weights_path.samples[weights_path.ts.index(1.0)], quadratic]
    )
    finite = bool(np.isfinite(rows).all())
    return Reading(
        path=path,
        weights_path=weights_path,
        D=interval(rows, lambda m: m[0], seed=seed),
        A=_agreement(path, reference),
        E=None if path.decisions is None else expected_drop(path.decisions, reference),
        K=float(quadratic.mean()),
        R=interval(rows, lambda m: m[2] / m[3], seed=seed),
        p=interval(rows, lambda m: np.log(m[0] / m[1]) / ratio, seed=seed),
        I=inward(landscape, reference, activations=moving) if finite else None,
        t_star=path.radius(tau),
        chance=float(np.mean([reference.divergence.chance(z0) for z0 in reference.outputs])),
    )


def _agreement(path: Path, reference: Reference) -> Agreement | None:
    if path.decisions is None:
        return None
    chosen = [reference.divergence.decisions(z0) for z0 in reference.outputs]
    original = torch.cat([c for c in chosen if c is not None]).numpy().astype(np.int64)
    return agreement(path.decisions, original)
