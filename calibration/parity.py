"""Which weights of 2 and 3 bits keep a zero, one decision for each scale.

Codes two apart make use of all 2^b levels (``Quantization.parity``). The odd ones suit bell-shaped numbers; a row of a
few large numbers among many small ones needs a zero: each of the small ones would be pushed half a step away. In a
transformer few rows are such, but they make the largest of its values.
"""

import numpy as np
import numpy.typing as npt
import torch

from edgeq.calibration.grids import Parities, Weighted
from edgeq.calibration.layer import Layer
from edgeq.calibration.mse_scale import mse_scale
from edgeq.plan.plan import Plan
from edgeq.plan.quantization import PARITY_BITS

IntArray = npt.NDArray[np.int64]

#: A row keeps a zero where that leaves less than this part of the squared error that odd codes leave.
WORTH = 0.5
#: A weight of which this part is exactly zero keeps its zeros.
SPARSE = 0.25


def whole(weight: Weighted) -> None:
    """Codes are all whole numbers: for rounding on a scale that covers the largest weight."""


def chosen(weight: Weighted) -> IntArray | None:
    """By the squared error of each row on its best scale, where the bits are few."""
    return None if weight.bits > PARITY_BITS else parity_of_rows(weight.rows, weight.bits)


def of(plan: Plan) -> Parities:
    """As the plan's weights have it."""

    def own(weight: Weighted) -> IntArray | None:
        parity = plan.weights[weight.name].quantization.parity
        return None if parity is None else parity.reshape(-1)

    return own


def parity_of_rows(rows: npt.NDArray[np.float32], bits: int) -> IntArray | None:
    """The parity of each of (scales, numbers on that scale), for so few bits; None where there are no numbers."""
    if not rows.size:
        return None
    if float((rows == 0).mean()) >= SPARSE:
        return np.zeros(len(rows), np.int64)
    odd, even = (_least_error(rows, bits, parity) for parity in (1, 0))
    return np.asarray((even >= WORTH * odd) & (even > 0), np.int64)


def _least_error(rows: npt.NDArray[np.float32], bits: int, parity: int) -> npt.NDArray[np.float32]:
    weight = torch.from_numpy(np.array(rows))[None]
    same = torch.full((1, len(rows)), float(parity))
    codes, scale = mse_scale(Layer(weight, weight, torch.empty(1, 0, 0), 2**bits - 1, True, parity=same))
    error: npt.NDArray[np.float32] = (weight - codes * scale[:, :, None]).square().sum(2)[0].numpy()
    return error
