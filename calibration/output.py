"""Mean and variance of what a layer makes, channel by channel.

They are all that the corrections of the first order need: a bias that takes up the difference of the means, a scale
that gives an output its variance back.
"""

import torch


class Output:
    """Gathered batch by batch, around the first batch's means so that no digits are lost.

    Args:
        axis: of the batches, along which the channels lie.
    """

    def __init__(self, axis: int) -> None:
        self._axis, self._count = axis, 0
        self._shift = self._linear = self._squares = torch.empty(0)

    def add(self, batch: torch.Tensor) -> None:
        """One batch more."""
        others = [dim for dim in range(batch.ndim) if dim != self._axis % batch.ndim]
        if not self._count:
            self._shift = batch.mean(others, keepdim=True)
            self._linear = self._squares = torch.zeros(self._shift.numel(), dtype=torch.float64)
        centred = batch - self._shift
        self._linear = self._linear + centred.sum(others)
        self._squares = self._squares + centred.square_().sum(others)
        self._count += batch.numel() // self._shift.numel()

    @property
    def mean(self) -> torch.Tensor:
        """(channels,), float64."""
        return self._shift.reshape(-1).double() + self._linear / self._count

    @property
    def variance(self) -> torch.Tensor:
        """(channels,), float64."""
        return self._squares / self._count - (self._linear / self._count).square()
