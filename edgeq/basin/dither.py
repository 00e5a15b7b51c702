"""Dither: is another point of the same grid better? Stochastic rounding of the float weights, a few times.

    q = step * clamp(floor(w0 / step + U(0, 1)))

A dithered point lower than the candidate says that a better grid point is near, so that rounding can help. The converse
says little: stochastic rounding has twice the error variance of rounding to nearest.
"""

import torch

from edgeq.basin.divergence import Reference, altitude
from edgeq.basin.landscape import Landscape

TRIALS = 3


def dither(
    landscape: Landscape, reference: Reference, *, activations: bool, trials: int = TRIALS, seed: int = 0
) -> tuple[float, ...]:
    """D of each stochastic rounding; biases are the candidate's."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(trials):
        point = dict(landscape.deployed)
        for layer in landscape.layers:
            w0 = landscape.origin[layer.weight] * layer.gain
            whole = torch.floor(w0 / layer.step - layer.offset + torch.rand(w0.shape, generator=generator))
            point[layer.weight] = (whole.clamp(layer.qmin, layer.qmax) + layer.offset) * layer.step
        phi, _ = altitude(landscape, point, reference, 1.0 if activations else 0.0)
        found.append(float(phi.mean()))
    return tuple(found)
