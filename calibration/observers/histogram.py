"""A histogram of a stream: constant memory, exact counts, and one answer whatever the batches' order of magnitude.

``BINS`` equal bins over [-R, R], R a power of two. When a number exceeds R, R doubles and neighbouring bins merge in
pairs: since bins nest, no count is ever split or moved, so the result depends on the numbers seen and not on the way
they were cut into batches (numbers within one rounding of a bin's edge aside).
"""

import math

import torch

from edgeq.calibration.observers.min_max import MinMax

BINS = 8192


class Histogram:
    """Counts of everything seen, with its exact extremes.

    Attributes:
        extremes: exact minimum and maximum.
        counts: int64 (BINS,).
        reach: R; 0 until something other than zero was seen.
    """

    def __init__(self) -> None:
        self.extremes = MinMax()
        self.counts = torch.zeros(BINS, dtype=torch.int64)
        self.reach = 0.0

    def update(self, tensor: torch.Tensor) -> None:
        """See :class:`Observer`."""
        if tensor.numel() == 0:
            return
        self.extremes.update(tensor)
        largest = max(-self.extremes.low, self.extremes.high)
        if largest > self.reach:
            self._grow(2.0 ** math.ceil(math.log2(largest)))
        if self.reach == 0.0:
            self.counts[BINS // 2] += tensor.numel()
            return
        # Half the time of torch.histc; R is a power of two, so that nothing but the sum is rounded.
        bins = (tensor.detach().float().reshape(-1) / self.reach).add_(1.0).mul_(BINS // 2).to(torch.int64)
        self.counts += torch.bincount(bins.clamp_(max=BINS - 1), minlength=BINS).cpu()

    def _grow(self, reach: float) -> None:
        while 0.0 < self.reach < reach:
            merged = self.counts.reshape(-1, 2).sum(1)
            self.counts = torch.zeros_like(self.counts)
            self.counts[BINS // 4 : 3 * BINS // 4] = merged
            self.reach *= 2
        self.reach = max(self.reach, reach)

    @property
    def width(self) -> float:
        """Width of a bin."""
        return 2 * self.reach / BINS

    def occupied(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(centres, counts) of the bins that are not empty, float64, ascending."""
        index = torch.nonzero(self.counts).reshape(-1)
        return (index.to(torch.float64) + 0.5) * self.width - self.reach, self.counts[index].to(torch.float64)
