"""The path from the float model to the deployed one and beyond: where is the basin's edge, and what lies behind it?

    phi(t) = mean over samples of the divergence at w0 + t d,     t = 0 float, t = 1 deployed
    local exponent between neighbouring t:  e = ln(phi_b / phi_a) / ln(t_b / t_a)

In a quadratic bowl e = 2 everywhere. At the basin's edge e leaves 2: upwards at a wall, downwards at a plateau.
Readings at t = 1 alone mislead, because a point far behind the wall stands on a plateau that looks like a bowl; so
every quantity is read along the whole path.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from edgeq.basin.divergence import Reference, altitude
from edgeq.basin.landscape import Landscape

#: Where the path is sampled: geometric near the float model, dense where the deployed point is.
GRID = (0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
#: Altitudes under this are rounding of float32 logits, and give no exponent.
SMALLEST_PHI = 1e-7
#: The exponent beyond which the bowl has ended.
WALL = 2.4


@dataclass(frozen=True, eq=False)
class Path:
    """Altitudes along the path.

    Attributes:
        ts: ascending positions, with 1 among them.
        samples: float64 (positions, samples), phi of every sample; not finite where an output is not.
        decisions: int64 (samples, positions of a sequence) at t = 1, or None.
    """

    ts: tuple[float, ...]
    samples: npt.NDArray[np.float64]
    decisions: npt.NDArray[np.int64] | None

    @property
    def phi(self) -> npt.NDArray[np.float64]:
        """float64 (positions,)."""
        mean: npt.NDArray[np.float64] = self.samples.mean(1)
        return mean

    @property
    def deployed(self) -> float:
        """D = phi(1)."""
        return float(self.phi[self.ts.index(1.0)])

    @property
    def exponents(self) -> tuple[float, ...]:
        """Local exponents, one for each pair of neighbouring positions; NaN where phi is too small to say."""
        return local_exponents(self.ts, self.phi)

    @property
    def steepest(self) -> float:
        """The largest local exponent on the way to the deployed point; NaN where none is known."""
        return max(self._until_deployed(), default=float("nan"))

    @property
    def exponent(self) -> float:
        """p, the local exponent just before the deployed point (forward-only estimate of I / D)."""
        return self.exponents[self.ts.index(1.0) - 1]

    @property
    def edge(self) -> float:
        """The first t at which the local exponent reaches :data:`WALL`, or infinity if the bowl lasts to the end.

        Exponents stand at the geometric middle of their interval and are joined linearly in ln t.
        """
        middles = [float(np.sqrt(a * b)) for a, b in zip(self.ts, self.ts[1:], strict=False)]
        known = [(t, e) for t, e in zip(middles, self.exponents, strict=True) if np.isfinite(e)]
        for index, (t, e) in enumerate(known):
            if e < WALL:
                continue
            if index == 0:
                return t
            before, e_before = known[index - 1]
            share = (WALL - e_before) / (e - e_before)
            return float(np.exp(np.log(before) + share * (np.log(t) - np.log(before))))
        return float("inf")

    def radius(self, tau: float) -> float:
        """t*, the first t with phi(t) > tau, by interpolating sqrt(phi); infinity if it is not reached."""
        return crossing(self.ts, self.phi, tau)

    @property
    def behind(self) -> float:
        """Share of the climb, in sqrt(phi), that lies behind the deployed point: 1 if nothing rises after it."""
        known = self.phi[np.isfinite(self.phi)]
        top = float(known.max(initial=0.0))
        return float(np.sqrt(max(self.deployed, 0.0) / top)) if top > 0 else 0.0

    def _until_deployed(self) -> list[float]:
        return [e for t, e in zip(self.ts[1:], self.exponents, strict=True) if t <= 1 and np.isfinite(e)]


def walk(landscape: Landscape, reference: Reference, *, activations: bool, ts: Sequence[float] = GRID) -> Path:
    """phi along the path; every position costs one forward pass over the samples.

    Args:
        landscape: the model.
        reference: the float outputs.
        activations: whether the activations go along, a + t (Qa(a) - a); else the weights alone.
        ts: ascending positions over 0; 1 must be among them.
    """
    rows, decisions = [], None
    for t in ts:
        phi, chosen = altitude(landscape, landscape.at(t), reference, t if activations else 0.0)
        rows.append(phi.numpy())
        if t == 1.0 and chosen is not None:
            decisions = chosen.to(torch.int64).numpy()
    return Path(tuple(ts), np.stack(rows), decisions)


def local_exponents(ts: Sequence[float], phi: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """d ln phi / d ln t between neighbouring positions."""
    found = []
    for a, b, low, high in zip(ts, ts[1:], phi, phi[1:], strict=False):
        usable = np.isfinite([low, high]).all() and min(low, high) > SMALLEST_PHI
        found.append(float(np.log(high / low) / np.log(b / a)) if usable else float("nan"))
    return tuple(found)


def crossing(ts: Sequence[float], phi: npt.NDArray[np.float64], tau: float) -> float:
    """The first t with phi > tau: sqrt(phi), which is straight in a bowl, is joined linearly from (0, 0)."""
    before_t, before = 0.0, 0.0
    for t, value in zip(ts, phi, strict=True):
        if not np.isfinite(value):
            return t
        root = float(np.sqrt(max(value, 0.0)))
        if value > tau:
            return before_t + (t - before_t) * (float(np.sqrt(tau)) - before) / (root - before)
        before_t, before = t, root
    return float("inf")
