"""K, what a perfect second-order method at the float weights predicts for D; and the same further along the path.

    K(t) = 1/2 d' F(w(t)) d,   F the Fisher matrix (for values: the Gauss-Newton matrix)

by a central finite difference of the outputs: J = (z(t + h) - z(t - h)) / 2h, then the divergence's quadratic form. Two
forward passes, no gradients, no Hessian. R = D / K(0) is 1 in a quadratic bowl and above 1 behind a wall.
"""

import numpy as np
import numpy.typing as npt
import torch

from edgeq.basin.divergence import Reference
from edgeq.basin.landscape import Landscape

#: Half the difference's length: the truncation error falls with its square, the rounding error grows with its inverse.
STEP = 0.02


def curvature(
    landscape: Landscape, reference: Reference, *, t: float = 0.0, activations: bool = False, step: float = STEP
) -> npt.NDArray[np.float64]:
    """K(t) of every sample, float64 (samples,); K is their mean.

    Args:
        landscape: the model.
        reference: the float outputs.
        t: where on the path; 0 is the float model.
        activations: whether the activations go along. At t = 0 the blend is then negative on one side, which is the
            same straight line continued.
        step: half the difference's length.
    """
    found = []
    with torch.no_grad():
        for inputs, z0 in reference:
            ends = [
                landscape.run(landscape.at(t + sign * step), inputs, (t + sign * step) if activations else 0.0)
                for sign in (1, -1)
            ]
            tangent = tuple((a.double() - b.double()) / (2 * step) for a, b in zip(*ends, strict=True))
            middle = z0 if t == 0 else tuple((a + b) / 2 for a, b in zip(*ends, strict=True))
            found.append(reference.divergence.quadratic(middle, tangent))
    return torch.cat(found).numpy()
