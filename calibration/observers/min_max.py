"""Min-max: the range covers everything that was seen."""

import math

import torch

from edgeq.errors import DataError


class MinMax:
    """The smallest and the largest number so far."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf

    def update(self, tensor: torch.Tensor) -> None:
        """See :class:`Observer`."""
        if tensor.numel() == 0:
            return
        low, high = (float(bound) for bound in torch.aminmax(tensor))
        # aminmax passes NaN on, so this sees every kind of number that is not finite.
        if not (math.isfinite(low) and math.isfinite(high)):
            raise DataError("holds NaN or infinity")
        self.low, self.high = min(self.low, low), max(self.high, high)

    def range(self, bits: int, *, symmetric: bool = False) -> tuple[float, float]:
        """See :class:`Observer`."""
        if self.low > self.high:
            raise DataError("no numbers were seen")
        return self.low, self.high
