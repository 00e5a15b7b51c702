"""Parity: the outputs of two executions of one model, compared in steps of the output's grid."""

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import DeviceError
from edgeq.measurement import Parity


def parity(
    simulated: npt.NDArray[Any], deployed: npt.NDArray[Any], *, step: float = 1.0, decisions: bool = False
) -> Parity:
    """Compare two outputs of the same samples.

    Args:
        simulated: codes, or real numbers on the grid; any shape with the samples first.
        deployed: the same of the other execution.
        step: the distance of neighbouring values: 1 for codes, the output's scale for real numbers.
        decisions: whether the largest of the last axis is a decision. A tie is decided for the first, as argmax does.

    Raises:
        DeviceError: the shapes differ, a number is not finite, or there is nothing to compare.
    """
    if simulated.shape != deployed.shape:
        raise DeviceError(f"parity: outputs of shape {simulated.shape} and {deployed.shape} cannot be compared")
    if simulated.size == 0:
        raise DeviceError("parity: no outputs to compare")
    first, second = simulated.astype(np.float64), deployed.astype(np.float64)
    difference = np.abs(first - second) / step
    if not np.isfinite(difference).all():
        raise DeviceError("parity: an output is NaN or infinite")
    steps, counts = np.unique(np.rint(difference).astype(np.int64), return_counts=True)
    histogram = {int(s): int(c) for s, c in zip(steps, counts, strict=True)}
    agree = float((first.argmax(-1) == second.argmax(-1)).mean()) if decisions else None
    return Parity(simulated.size, simulated.size - histogram.get(0, 0), histogram, agree)
