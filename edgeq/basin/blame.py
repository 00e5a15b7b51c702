"""c_l, layer l's share of the climb, by the path integral of its part of the slope.

    c_l = integral over t in [0, 1] of <g_l(w(t)), d_l> dt,     sum over l of c_l = D

Since phi(1) = integral of <g, d> exactly, the shares sum to D up to the quadrature: Gauss-Legendre on each half of the
path, because a wall makes the slope uneven. What quantized activations add beyond that has no layer's weights to blame
and is told apart.
"""

from dataclasses import dataclass

import numpy as np
import torch

from edgeq.basin.divergence import Reference
from edgeq.basin.inward import gradient
from edgeq.basin.landscape import Landscape

POINTS_PER_HALF = 3


@dataclass(frozen=True)
class Blame:
    """The shares.

    Attributes:
        by_layer: layer name -> c_l; negative where a layer's error makes up for others'.
        total: their sum.
        altitude: D of the weights on the same samples; the difference to the sum is the quadrature's error.
    """

    by_layer: dict[str, float]
    total: float
    altitude: float


def blame(landscape: Landscape, reference: Reference, points_per_half: int = POINTS_PER_HALF) -> Blame:
    """The shares of the weights (and biases) of each layer, with activations in float."""
    d = landscape.difference()
    shares = dict.fromkeys((layer.name for layer in landscape.layers), 0.0)
    nodes, weights = np.polynomial.legendre.leggauss(points_per_half)
    samples = len(reference)
    altitude = 0.0
    for inputs, z0 in reference:
        part = len(z0[0]) / samples
        for start in (0.0, 0.5):
            for node, weight in zip(nodes, weights, strict=True):
                t = start + 0.25 * (float(node) + 1)
                found = gradient(landscape, landscape.at(t), inputs, z0, reference, 0.0)
                for layer in landscape.layers:
                    slope = sum(float((found[name] * d[name]).sum()) for name in layer.parameters)
                    shares[layer.name] += 0.25 * float(weight) * part * slope
        with torch.no_grad():
            outputs = landscape.run(landscape.deployed, inputs, 0.0)
            altitude += part * float(reference.divergence(outputs, z0).mean())
    return Blame(shares, sum(shares.values()), altitude)
