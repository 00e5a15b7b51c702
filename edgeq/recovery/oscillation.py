"""Freeze weights whose codes oscillate.

Source: Nagel et al., "Overcoming Oscillations in Quantization-Aware Training", ICML 2022. A straight-through gradient
drives a latent weight to a rounding border and then to and fro across it, so that its code at the end is a matter of
luck. A moving average f counts reversals of direction:

    f <- (1 - m) f + m [code changed, against the direction of its last change]

Where f exceeds a threshold the weight is frozen on the code nearest to the moving average of its codes.
"""

from collections.abc import Sequence

import torch

from edgeq.simulate.fake_quantize import WeightQuantizer

_DECAY = 0.02


class Freezer:
    """Counts reversals and freezes; call :meth:`after_step` after each update.

    Args:
        weights: the quantizers to watch.
        threshold: of the moving average of reversals; a perfect oscillation has 1.
    """

    def __init__(self, weights: Sequence[WeightQuantizer], threshold: float) -> None:
        self.weights, self.threshold = tuple(weights), threshold
        self._codes = [q.codes() for q in self.weights]
        self._average = [codes.clone() for codes in self._codes]
        self._direction = [torch.zeros_like(codes) for codes in self._codes]
        self._frequency = [torch.zeros_like(codes) for codes in self._codes]
        self._frozen = [torch.zeros_like(codes, dtype=torch.bool) for codes in self._codes]

    @torch.no_grad()
    def after_step(self) -> None:
        """Update the counts, freeze what oscillates, and hold what is frozen."""
        for index, quantizer in enumerate(self.weights):
            codes = quantizer.codes()
            change = torch.sign(codes - self._codes[index])
            reversed_ = (change != 0) & (change == -self._direction[index])
            self._direction[index] = torch.where(change != 0, change, self._direction[index])
            self._frequency[index].lerp_(reversed_.to(codes.dtype), _DECAY)
            self._average[index].lerp_(codes, _DECAY)
            newly = (self._frequency[index] > self.threshold) & ~self._frozen[index]
            self._average[index] = torch.where(newly, torch.round(self._average[index]), self._average[index])
            self._frozen[index] |= newly
            held = torch.clamp(torch.round(self._average[index]), quantizer.qmin, quantizer.qmax) * quantizer.scale
            quantizer.latent.copy_(torch.where(self._frozen[index], held, quantizer.latent))
            self._codes[index] = quantizer.codes()
            # A frozen weight's average stays where it was frozen.
            self._average[index] = torch.where(self._frozen[index], self._codes[index], self._average[index])

    @property
    def frozen_share(self) -> float:
        """Share of the watched weights that are frozen."""
        total = sum(mask.numel() for mask in self._frozen)
        return sum(int(mask.sum()) for mask in self._frozen) / max(total, 1)

    def state(self) -> list[torch.Tensor]:
        """Everything that a resumed run needs."""
        return [*self._codes, *self._average, *self._direction, *self._frequency, *self._frozen]

    def load(self, state: list[torch.Tensor]) -> None:
        """Continue from :meth:`state`."""
        n = len(self.weights)
        parts = [
            [t.to(q.latent.device) for t, q in zip(state[i * n : (i + 1) * n], self.weights, strict=True)]
            for i in range(5)
        ]
        self._codes, self._average, self._direction, self._frequency, self._frozen = parts
