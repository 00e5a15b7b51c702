"""Second moments of a layer's input in the float and the quantized model: all that a layer's least squares need.

    C_qq = cov(x_q, x_q),   C_fq = cov(x_f, x_q),   m_f, m_q = means

With a free bias the layer's error  E |W x_f + b - V x_q - c|^2  is least for  c = b + W m_f - V m_q  and then depends
on the centred moments alone. Accumulated in float64 batch by batch; the columns of a large layer are thinned out.
"""

from dataclasses import dataclass

import torch

from edgeq.calibration.columns import columns
from edgeq.calibration.walk import Walk
from edgeq.plan.plan import Unit

#: At most so many columns for each row of the matrix (and no fewer than FEWEST) are used; more are thinned out evenly.
COLUMNS_PER_ROW = 32
FEWEST = 1 << 14


@dataclass(frozen=True, eq=False)
class Moments:
    """Centred second moments and means, float64; groups first.

    Attributes:
        qq: (groups, K, K) of the quantized model's input.
        fq: (groups, K, K), rows of the float model's input, columns of the quantized model's.
        ff: (groups, K, K) of the float model's input.
        mean_f: (groups, K).
        mean_q: (groups, K).
        count: how many columns.
    """

    qq: torch.Tensor
    fq: torch.Tensor
    ff: torch.Tensor
    mean_f: torch.Tensor
    mean_q: torch.Tensor
    count: int


def moments(walk: Walk, unit: Unit) -> Moments:
    """The moments of a unit's input at the walk's point."""
    real, quantized = walk.inputs(unit)
    whole = columns(walk.graph, unit, real[0])
    groups, depth = whole.shape[:2]
    available = whole.shape[2] * sum(len(batch) for batch in real) // max(1, len(real[0]))
    thin = max(1, available // max(FEWEST, COLUMNS_PER_ROW * depth))
    sums = [torch.zeros(groups, depth, depth, dtype=torch.float64) for _ in range(3)]
    means = [torch.zeros(groups, depth, dtype=torch.float64) for _ in range(2)]
    # Shifted by the first batch's mean, so that centring afterwards loses no digits.
    shift_f, shift_q = whole.mean(2, keepdim=True), columns(walk.graph, unit, quantized[0]).mean(2, keepdim=True)
    count = 0
    for index, (f, q) in enumerate(zip(real, quantized, strict=True)):
        a = columns(walk.graph, unit, f, thin, index) - shift_f
        b = columns(walk.graph, unit, q, thin, index) - shift_q
        for total, left, right in zip(sums, (b, a, a), (b, b, a), strict=True):
            total += left @ right.transpose(1, 2)
        means[0] += a.sum(2)
        means[1] += b.sum(2)
        count += a.shape[2]
    f_mean, q_mean = (mean / count for mean in means)
    qq, fq, ff = (total / count for total in sums)
    return Moments(
        qq - q_mean[:, :, None] * q_mean[:, None, :],
        fq - f_mean[:, :, None] * q_mean[:, None, :],
        ff - f_mean[:, :, None] * f_mean[:, None, :],
        f_mean + shift_f[:, :, 0].double(),
        q_mean + shift_q[:, :, 0].double(),
        count,
    )
