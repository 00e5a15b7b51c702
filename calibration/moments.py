"""Second moments of a layer's input in the float and the quantized model: all that a layer's least squares need.

    C_qq = cov(x_q, x_q),   C_fq = cov(x_f, x_q),   m_f, m_q = means

With a free bias the layer's error  E |W x_f + b - V x_q - c|^2  is least for  c = b + W m_f - V m_q  and then depends
on the centred moments alone. A layer whose bias is not the plan's (weight-only) has no such c: its moments are not
centred, so that its rounding pays for the shift that it makes. Accumulated in float64 batch by batch; the columns of a
large layer are thinned out.
"""

from collections.abc import Iterator
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
    """Second moments (centred where the bias is free) and means, float64; groups first.

    Attributes:
        qq: (groups, K, K) of the quantized model's input.
        fq: (groups, K, K), rows of the float model's input, columns of the quantized model's.
        mean_f: (groups, K).
        mean_q: (groups, K).
        count: how many columns.
    """

    qq: torch.Tensor
    fq: torch.Tensor
    mean_f: torch.Tensor
    mean_q: torch.Tensor
    count: int


def thinned_columns(walk: Walk, unit: Unit) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The unit's input as columns in the float and the quantized model, (groups, K, positions) each, batch by batch."""
    first, _ = walk.inputs(unit, 0)
    _, depth, positions = shape_of_columns(walk.graph, unit, first)
    thin = max(1, positions * walk.batches // max(FEWEST, COLUMNS_PER_ROW * depth))
    for index in range(walk.batches):
        f, q = walk.inputs(unit, index)
        yield columns(walk.graph, unit, f, thin, index), columns(walk.graph, unit, q, thin, index)


def means(walk: Walk, unit: Unit) -> Moments:
    """The means alone: the second moments are empty."""
    totals: list[torch.Tensor] = []
    count = 0
    for a, b in thinned_columns(walk, unit):
        found = [side.sum(2, dtype=torch.float64) for side in (a, b)]
        totals = found if not totals else [total + part for total, part in zip(totals, found, strict=True)]
        count += a.shape[2]
    none = torch.empty(len(totals[0]), 0, 0, dtype=torch.float64)
    return Moments(none, none, totals[0] / count, totals[1] / count, count)


def moments(walk: Walk, unit: Unit) -> Moments:
    """The moments of a unit's input at the walk's point; centred for an integer unit, whose bias is the plan's."""
    qq = fq = f_sum = q_sum = shift_f = shift_q = torch.empty(0)
    count = 0
    for a, b in thinned_columns(walk, unit):
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
    f_mean, q_mean = f_mean + shift_f[:, :, 0].double(), q_mean + shift_q[:, :, 0].double()
    if not unit.integer:
        qq, fq = qq + q_mean[:, :, None] * q_mean[:, None, :], fq + f_mean[:, :, None] * q_mean[:, None, :]
    return Moments(qq, fq, f_mean, q_mean, count)


def output_variances(
    walk: Walk, unit: Unit, real: torch.Tensor, quantized: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Variance of each output, (groups, outputs): of the float rows on the float input, and of the quantized ones.

    Args:
        walk: at the unit.
        unit: whose input.
        real: the float weight (groups, outputs, K).
        quantized: the chosen weight, likewise.
    """
    rows = real.float(), quantized.float()
    sums: list[list[torch.Tensor]] = [[], []]
    shifts: list[torch.Tensor] = []
    count = 0
    for pair in thinned_columns(walk, unit):
        outputs = [row @ side for row, side in zip(rows, pair, strict=True)]
        shifts = shifts or [y.mean(2, keepdim=True) for y in outputs]
        for total, y, shift in zip(sums, outputs, shifts, strict=True):
            centred = (y - shift).double()
            found = [centred.sum(2), centred.square().sum(2)]
            total[:] = found if not total else [t + part for t, part in zip(total, found, strict=True)]
        count += pair[0].shape[2]
    first, second = (squares / count - (linear / count).square() for linear, squares in sums)
    return first, second
