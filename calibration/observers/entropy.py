"""Entropy: the range whose quantized histogram loses the least information.

    minimize over (low, high)   KL(P || Q)

P: the histogram with everything outside of the range added to its outermost bins. Q: each level's count spread evenly
over the bins of that level that are not empty. Szymon Migacz, "8-bit Inference with TensorRT" (GTC 2017), here for
asymmetric ranges: the larger end shrinks in 128 steps, the smaller one follows when they meet. The bin that holds zero
counts as much as its neighbour, as there: zero is exact on every grid, and a ReLU's zeros would outvote all else.
"""

import numpy as np
import torch

from edgeq.calibration.observers.histogram import Histogram


class Entropy(Histogram):
    """The range of least Kullback-Leibler divergence."""

    def range(self, bits: int, *, symmetric: bool = False) -> tuple[float, float]:
        """See :class:`Observer`."""
        low, high = (min(0.0, self.extremes.range(bits)[0]), max(0.0, self.extremes.range(bits)[1]))
        if self.reach == 0.0:
            return low, high
        if symmetric:
            high = max(-low, high)
            low = -high
        x, counts = self._without_zeros()
        # Ties go to the widest range.
        reaches = np.linspace(1.0, 1 / 128, 128) * max(-low, high)
        candidates = [(max(low, -reach), min(high, reach)) for reach in reaches.tolist()]
        divergences = [_divergence(x, counts, a, b, 2**bits) for a, b in candidates]
        return candidates[int(np.argmin(divergences))]

    def _without_zeros(self) -> tuple[torch.Tensor, torch.Tensor]:
        x, counts = self.occupied()
        if len(x) > 1:
            zero = int(x.abs().argmin())
            counts[zero] = counts[zero + 1] if zero + 1 < len(x) else counts[zero - 1]
        return x, counts


def _divergence(x: torch.Tensor, counts: torch.Tensor, low: float, high: float, levels: int) -> float:
    inside = (x >= low) & (x <= high)
    if int(inside.sum()) <= min(levels, len(x)) // 2:
        return float("inf")  # fewer distinct numbers than half the levels: nothing is left to compare
    kept, raw = x[inside], counts[inside]
    p = raw.clone()
    p[0] += counts[x < low].sum()
    p[-1] += counts[x > high].sum()
    level = torch.clamp(((kept - low) / (high - low) * levels).long(), 0, levels - 1)
    total = torch.zeros(levels, dtype=torch.float64).index_add_(0, level, raw)
    bins = torch.zeros(levels, dtype=torch.float64).index_add_(0, level, torch.ones_like(raw))
    q = (total / bins.clamp(min=1))[level]
    p, q = p / p.sum(), q / q.sum()
    return float((p * torch.log(p / q)).sum())
