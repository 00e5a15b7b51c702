"""A moving average of everything that learns (Polyak and Ruppert's averaging, with exponential weights).

    a <- d a + (1 - d) w,   d = min(decay, (k + 1) / (k + 10))

so that the first steps, far from the end, are forgotten. Averaged latent weights are rounded like any others.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


class Average:
    """The moving average of some parameters."""

    def __init__(self, parameters: Sequence[torch.Tensor], decay: float) -> None:
        self.parameters, self.decay = tuple(parameters), decay
        self.values = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Take in the parameters after that step, counted from 0."""
        decay = min(self.decay, (step + 1) / (step + 10))
        torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters are the average inside of the block, and as they were after it."""
        own = [p.detach().clone() for p in self.parameters]
        self._put(self.values)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: Sequence[torch.Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)
