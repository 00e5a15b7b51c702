"""Second moments of a layer's input in the float and the quantized model: all that a layer's least squares need.

    C_qq = cov(x_q, x_q),   C_fq = cov(x_f, x_q)

With a free bias the layer's error  E |W x_f + b - V x_q - c|^2  is least for  c = b + E W x_f - E V x_q  and then
depends on the centred moments alone. A layer whose bias is not the plan's (weight-only) has no such c: its moments are
not centred, so that its rounding pays for the shift that it makes. Accumulated in float64 batch by batch; the columns
of a large layer are thinned out.
"""

from dataclasses import dataclass

import torch

from edgeq.calibration.columns import columns, shape_of_columns
from edgeq.calibration.walk import Walk
from edgeq.plan.plan import Unit

#: At most so many columns for each row of the matrix (and no fewer than FEWEST) are used; more are thinned out evenly.
COLUMNS_PER_ROW = 16
FEWEST = 1 << 13


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments, centred where the bias is free; float64, groups first.

    Attributes:
        qq: (groups, K, K) of the quantized model's input.
        fq: (groups, K, K), rows of the float model's input, columns of the quantized model's.
    """

    qq: torch.Tensor
    fq: torch.Tensor


def moments(walk: Walk, unit: Unit) -> Moments:
    """The moments of a unit's input at the walk's point; centred for an integer unit, whose bias is the plan's."""
    qq = fq = f_sum = q_sum = shift_f = shift_q = torch.empty(0)
    count = 0
    first, _ = walk.inputs(unit, 0)
    _, rows, positions = shape_of_columns(walk.graph, unit, first)
    thin = max(1, positions * walk.batches // max(FEWEST, COLUMNS_PER_ROW * rows))
    for index in range(walk.batches):
        a, b = (columns(walk.graph, unit, side, thin, index) for side in walk.inputs(unit, index))
        if not count:
            groups, depth = a.shape[:2]
            qq, fq = (torch.zeros(groups, depth, depth, dtype=torch.float64) for _ in range(2))
            f_sum, q_sum = (torch.zeros(groups, depth, dtype=torch.float64) for _ in range(2))
            # Shifted by the first batch's mean, so that centring afterwards loses no digits.
            shift_f, shift_q = a.mean(2, keepdim=True), b.mean(2, keepdim=True)
        a, b = a - shift_f, b - shift_q
        across = b.transpose(1, 2)
        qq += b @ across
        fq += a @ across
        f_sum += a.sum(2)
        q_sum += b.sum(2)
        count += a.shape[2]
    f_mean, q_mean = f_sum / count, q_sum / count
    qq = qq / count - q_mean[:, :, None] * q_mean[:, None, :]
    fq = fq / count - f_mean[:, :, None] * q_mean[:, None, :]
    if not unit.integer:
        f_mean, q_mean = f_mean + shift_f[:, :, 0].double(), q_mean + shift_q[:, :, 0].double()
        qq, fq = qq + q_mean[:, :, None] * q_mean[:, None, :], fq + f_mean[:, :, None] * q_mean[:, None, :]
    return Moments(qq, fq)
