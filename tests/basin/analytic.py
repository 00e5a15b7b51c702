"""Analytic landscapes in which every quantity of the diagnostic has a known exact value.

A *river valley* in the plane (u along, v across). The river is the curve v = kappa u^2; r = v - kappa u^2 is the
distance across. On the flat floor the altitude grows as s^2 r^2, and beyond |r| = b stands a wall:

    phi(w) = s^2 r^2 + h^2 max(|r| - b, 0)^2

written as two residuals z = (s r, h max(|r| - b, 0)), so that the second-order form at the float point is s^2 r^2
exactly. Samples scale the residuals by factors whose squares have mean 1, so that phi differs between samples with
that mean.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from edgeq.basin.divergence import Divergence, Reference
from edgeq.basin.landscape import Inputs, Landscape, Layer, Point

Residuals = Callable[[Point], torch.Tensor]


@dataclass(frozen=True)
class Valley:
    """A river valley; see the module."""

    s: float = 0.5
    h: float = 4.0
    b: float = 0.6
    kappa: float = 0.0

    def residuals(self, point: Point) -> torch.Tensor:
        r = point["v"] - self.kappa * point["u"].square()
        return torch.cat([self.s * r, self.h * (r.abs() - self.b).clamp_min(0)])

    def phi(self, u: float, v: float) -> float:
        r = v - self.kappa * u * u
        return self.s**2 * r * r + self.h**2 * max(abs(r) - self.b, 0.0) ** 2


def landscape(residuals: Residuals, origin: dict[str, list[float]], deployed: dict[str, list[float]]) -> Landscape:
    """Each parameter is a layer of its own, on a grid of step 1 whose origin is zero."""
    layers = tuple(Layer(name, name, None, torch.ones(1), -7, 7, 4) for name in origin)

    def run(point: Point, inputs: Inputs, blend: float) -> tuple[torch.Tensor, ...]:
        return (inputs[0][:, None] * residuals(point),)

    return Landscape(
        layers,
        {name: torch.tensor(w, dtype=torch.float64) for name, w in origin.items()},
        {name: torch.tensor(w, dtype=torch.float64) for name, w in deployed.items()},
        run,
    )


def reference(scape: Landscape, samples: int = 64, batch: int = 16) -> Reference:
    """Samples whose squared factors have mean 1; phi is the sum of squared residuals (their number times their
    mean)."""
    factors = torch.linspace(0.5, 1.5, samples, dtype=torch.float64)
    factors = factors / factors.square().mean().sqrt()
    # Dealt out in turn, so that batches are alike.
    factors = torch.cat([factors[i :: samples // batch] for i in range(samples // batch)])
    batches = [(part,) for part in factors.split(batch)]
    outputs = tuple(scape.run(scape.origin, inputs, 0.0) for inputs in batches)
    count = outputs[0][0].shape[1]
    return Reference(tuple(batches), outputs, Divergence("values", (1.0 / count,)))


def river(valley: Valley, u: float, v: float) -> Landscape:
    """From the float point (0, 0) on the river to (u, v)."""
    return landscape(valley.residuals, {"u": [0.0], "v": [0.0]}, {"u": [u], "v": [v]})
