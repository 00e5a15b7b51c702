"""Percentile: the range leaves out the outermost share of the numbers at each end.

Outliers of transformers carry the result: there a percentile of 99.9 is a known trap, so the default leaves out only
1 in 100,000 (the setting that NVIDIA's and onnxruntime's calibrators call 99.999).
"""

import torch

from edgeq.calibration.observers.histogram import Histogram


class Percentile(Histogram):
    """The range between the (1 - share) and the share quantile.

    Args:
        share: part of the numbers below the upper end, 0.5 to 1.
    """

    def __init__(self, share: float = 0.99999) -> None:
        super().__init__()
        self.share = share

    def range(self, bits: int, *, symmetric: bool = False) -> tuple[float, float]:
        """See :class:`Observer`."""
        low, high = self.extremes.range(bits)
        if self.reach == 0.0:
            return low, high
        centres, counts = self.occupied()
        below = torch.cumsum(counts, 0) / counts.sum()
        # The outer edge of the bin in which the quantile falls, so that a coarse bin never cuts more than was asked.
        top = centres[torch.searchsorted(below, self.share).clamp(max=len(below) - 1)] + self.width / 2
        bottom = (
            centres[torch.searchsorted(below, 1 - self.share, right=True).clamp(max=len(below) - 1)] - self.width / 2
        )
        return max(low, float(bottom)), min(high, float(top))
