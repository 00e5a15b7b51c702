"""Learned step sizes: which scales may learn, within which bounds, and how their gradients are scaled.

Source: Esser et al., "Learned Step Size Quantization", ICLR 2020: the gradient of a scale is multiplied by
1 / sqrt(numbers on the scale x qmax), so that it is of the size of the weights' own. Adam does not see such a factor;
plain gradient steps (Polyak) need it. Ours: scales are bounded, so that a plan stays valid on every runtime:

- positive: not under a quarter of the start;
- the grids that runtimes prescribe (softmax, sigmoid, tanh) do not learn;
- a grid that saturates where a clip does must not outgrow it, or the runtime could not fuse the clip any more.

Biases follow by themselves: their grid is input scale x weight scale wherever these go (``BiasQuantizer``).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from edgeq.plan.plan import Plan
from edgeq.simulate.fake_quantize import ActivationQuantizer, WeightQuantizer
from edgeq.simulate.simulation import Simulation

#: A scale stays within these multiples of its start.
SMALLEST, LARGEST = 0.25, 4.0


def learnable_activations(simulation: Simulation, plan: Plan) -> Iterator[tuple[str, ActivationQuantizer]]:
    """(group, quantizer) of every activation grid that no runtime prescribes."""
    for group, quantizer in simulation.activations():
        if group not in plan.skeleton.fixed:
            yield group, quantizer


def gradient_scale(count: int, qmax: int) -> float:
    """LSQ's factor for a scale that ``count`` numbers are divided by."""
    return float((count * max(qmax, 1)) ** -0.5)


@dataclass(frozen=True, eq=False)
class Bounds:
    """Where a scale may go.

    Attributes:
        scale: the parameter.
        low: its lower bounds, same shape.
        high: its upper bounds, same shape.
    """

    scale: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    def hold(self) -> None:
        """Bring the scale back between its bounds."""
        with torch.no_grad():
            self.scale.copy_(torch.minimum(torch.maximum(self.scale, self.low), self.high))


def bounds(simulation: Simulation, plan: Plan) -> tuple[Bounds, ...]:
    """The bounds of every scale, from where it starts."""
    found = [_around(q, torch.inf) for q in simulation.weights.values()]
    for group, quantizer in learnable_activations(simulation, plan):
        found.append(_around(quantizer, _largest_under_clamp(quantizer, plan.skeleton.clamps.get(group))))
    return tuple(found)


def _around(quantizer: WeightQuantizer | ActivationQuantizer, largest: float) -> Bounds:
    start = quantizer.scale.detach().clone()
    tiny = float(np.finfo(np.float32).tiny)
    return Bounds(quantizer.scale, (start * SMALLEST).clamp_min(tiny), (start * LARGEST).clamp_max(largest))


def _largest_under_clamp(quantizer: ActivationQuantizer, clamp: tuple[float, float] | None) -> float:
    if clamp is None or not np.isfinite(clamp[1]):
        return float("inf")
    reach = quantizer.qmax - int(quantizer.zero_point)
    return max(clamp[1] / reach if reach else float("inf"), float(quantizer.scale.detach()))
