"""How the rate goes through the run, and how many steps a budget holds.

One cycle: linear warm-up, then half a cosine down to zero, as a function of *progress* in [0, 1]. With a budget in
steps or samples, progress is step / steps. With a budget in time the number of steps is measured before the first one,
and corrected at the watch points if the machine turns out slower or faster: from there on progress runs linearly to 1
at the new number of steps. Each correction is part of the checkpoint.
"""

import math
from dataclasses import dataclass, replace

#: The rate never falls to zero while steps are still taken.
_FLOOR = 1e-3
#: A measured speed is believed only up to this factor of what was assumed: less is noise.
_NOTABLE = 1.1


def one_cycle(progress: float, warm_up: float) -> float:
    """The factor on every rate at that progress."""
    if progress < warm_up:
        return max(progress / warm_up, _FLOOR)
    return max(0.5 * (1 + math.cos(math.pi * (progress - warm_up) / max(1 - warm_up, 1e-9))), _FLOOR)


@dataclass(frozen=True)
class Pace:
    """Progress as a function of the step: linear from (step, progress) to (steps, 1).

    Attributes:
        steps: at which step the run ends.
        step: from which step this pace holds.
        progress: the progress at that step.
    """

    steps: int
    step: int = 0
    progress: float = 0.0

    def at(self, step: int) -> float:
        """Progress at a step, in [0, 1]."""
        if step >= self.steps:
            return 1.0
        return self.progress + (1.0 - self.progress) * (step - self.step) / (self.steps - self.step)

    def corrected(self, step: int, seconds_left: float, seconds_per_step: float) -> "Pace":
        """The pace that ends when the time does, if it differs notably from this one."""
        left = max(1, int(seconds_left / seconds_per_step))
        planned = self.steps - step
        if planned < 1 or max(left / planned, planned / left) < _NOTABLE:
            return self
        return replace(self, steps=step + left, step=step, progress=self.at(step))


def polyak_step(loss: float, squared_gradient: float, factor: float) -> float:
    """Polyak's step length for a loss whose optimum is 0: factor x loss / |gradient|^2 (Polyak 1987)."""
    return factor * loss / max(squared_gradient, 1e-30)
