"""The probe: a few STE steps, judged on samples that they did not see. A direct trial of whether QAT will recover.

    w  <-  w - a Adam(grad phi at q(w)),     q(w) = step * clamp(round(w / step))

The gradient is taken at the deployed weights q and applied to the latent weights w (straight-through estimator), so
that it feels the wall on which q stands. Steps are measured in quantization steps: the learning rate of a layer is a
fixed part of its own grid's step (half a percent flips one code in a hundred within a few dozen steps; ten times as
much destroys). Biases move like weights. Scales stay. The rate warms up over four steps and falls to a tenth.

The held-out altitude of the deployed weights is read every few steps, and the best reading judges: a probe that first
falls and then oscillates has shown that the basin is near.
"""

from dataclasses import dataclass

import torch

from edgeq.basin.divergence import Reference, altitude
from edgeq.basin.inward import gradient
from edgeq.basin.landscape import Landscape, Layer, Point

STEPS = 24
CHECKS = 4
#: Learning rate in quantization steps.
RATE = 0.005
_BETAS = (0.9, 0.99)


@dataclass(frozen=True, eq=False)
class Probe:
    """What the probe found.

    Attributes:
        steps: at which steps it was judged, 0 first.
        deployed: phi(q_k) on held-out samples at those steps.
        latent: phi(w_k) of the latent float weights there.
        flipped: share of the codes that differ from the candidate's at the end.
        point: the best deployed point found.
    """

    steps: tuple[int, ...]
    deployed: tuple[float, ...]
    latent: tuple[float, ...]
    flipped: float
    point: dict[str, torch.Tensor]

    @property
    def best(self) -> float:
        """The lowest held-out D."""
        return min(self.deployed)

    @property
    def fall(self) -> float:
        """Share of D that the best reading has lost; 0 if training only made it worse."""
        return 1 - self.best / self.deployed[0] if self.deployed[0] > 0 else 0.0


def probe(
    landscape: Landscape,
    training: Reference,
    held_out: Reference,
    *,
    steps: int = STEPS,
    batch: int = 32,
    rate: float = RATE,
    checks: int = CHECKS,
) -> Probe:
    """Train for a few steps and judge.

    Args:
        landscape: the candidate (after its repair).
        training: unlabelled samples to train on, in turn.
        held_out: other unlabelled samples to judge on.
        steps: how many steps.
        batch: samples in a step.
        rate: learning rate in quantization steps.
        checks: how often the held-out altitude is read.
    """
    blend = 1.0 if landscape.activations else 0.0
    latent = latent_point(landscape)
    start = codes(landscape, latent)
    optimizer = Optimizer(landscape, latent, steps, rate)
    parts = list(training.rebatched(batch))
    readings = [(0, *_read(landscape, latent, held_out, blend))]
    best, best_point = readings[0][1], rounded(landscape, latent)
    every = max(1, steps // checks)
    for step in range(1, steps + 1):
        inputs, z0 = parts[(step - 1) % len(parts)]
        slope = gradient(landscape, rounded(landscape, latent), inputs, z0, training, blend)
        latent = optimizer.step(latent, slope, step)
        if step % every == 0 or step == steps:
            readings.append((step, *_read(landscape, latent, held_out, blend)))
            if readings[-1][1] < best:
                best, best_point = readings[-1][1], rounded(landscape, latent)
    now = codes(landscape, latent)
    changed = sum(float((now[name] != start[name]).sum()) for name in now)
    positions, deployed, floating = zip(*readings, strict=True)
    return Probe(positions, deployed, floating, changed / sum(c.numel() for c in now.values()), best_point)


def latent_point(landscape: Landscape) -> dict[str, torch.Tensor]:
    """Float weights that round to the candidate: w0, or the candidate's grid point where its codes are not the nearest.

    Where a repair has scaled a layer's grid, w0 is scaled with it.
    """
    latent = dict(landscape.deployed)
    for layer in landscape.layers:
        q = landscape.deployed[layer.weight]
        scaled = landscape.origin[layer.weight] * layer.gain
        near = _codes(layer, scaled) == _codes(layer, q)
        latent[layer.weight] = torch.where(near, scaled, q)
    return latent


def rounded(landscape: Landscape, latent: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The deployed point of latent weights; biases as they are."""
    point = dict(latent)
    for layer in landscape.layers:
        point[layer.weight] = _codes(layer, latent[layer.weight]) * layer.step
    return point


def codes(landscape: Landscape, latent: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The codes of latent weights, by weight name."""
    return {layer.weight: _codes(layer, latent[layer.weight]) for layer in landscape.layers}


def _codes(layer: Layer, w: torch.Tensor) -> torch.Tensor:
    return torch.round(w / layer.step - layer.offset).clamp(layer.qmin, layer.qmax) + layer.offset


class Optimizer:
    """Adam (Kingma and Ba 2015) whose step is measured in quantization steps of each layer."""

    def __init__(self, landscape: Landscape, point: Point, steps: int, rate: float = RATE) -> None:
        self.steps = steps
        self.rates = {name: torch.zeros(()) for name in point}
        for layer in landscape.layers:
            self.rates[layer.weight] = rate * layer.step
            if layer.bias is not None:
                self.rates[layer.bias] = rate * layer.step.mean()
        self.moments = {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in point.items()}

    def step(self, point: Point, slope: Point, step: int) -> dict[str, torch.Tensor]:
        """The point after one step down the slope; ``step`` counts from 1."""
        schedule = min(1.0, step / 4) * (1 - 0.9 * step / self.steps)
        return {
            name: w - schedule * self.rates[name] * self._direction(name, slope[name], step)
            for name, w in point.items()
        }

    def _direction(self, name: str, g: torch.Tensor, step: int) -> torch.Tensor:
        first, second = self.moments[name]
        first = _BETAS[0] * first + (1 - _BETAS[0]) * g
        second = _BETAS[1] * second + (1 - _BETAS[1]) * g * g
        self.moments[name] = (first, second)
        unbiased = second / (1 - _BETAS[1] ** step)
        return first / (1 - _BETAS[0] ** step) / (unbiased.sqrt() + 1e-12)


def _read(
    landscape: Landscape, latent: dict[str, torch.Tensor], held_out: Reference, blend: float
) -> tuple[float, float]:
    deployed, _ = altitude(landscape, rounded(landscape, latent), held_out, blend)
    floating, _ = altitude(landscape, latent, held_out, 0.0)
    return float(deployed.mean()), float(floating.mean())
