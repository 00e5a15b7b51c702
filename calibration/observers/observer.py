"""The contract of an observer."""

from typing import Protocol

import torch


class Observer(Protocol):
    """Sees every tensor of one value (or of a group of values that share a grid), in memory of constant size.

    Deterministic: the same tensors in the same order give the same range.
    """

    def update(self, tensor: torch.Tensor) -> None:
        """Take in one tensor of any shape.

        Raises:
            DataError: it holds NaN or infinity.
        """

    def range(self, bits: int, *, symmetric: bool = False) -> tuple[float, float]:
        """(low, high) for a grid of that width, low <= high; symmetric: the grid will be centred on zero.

        Raises:
            DataError: nothing was seen.
        """
