"""What a budget in time is spent on besides steps: looks at held-out samples on the way, and the judgement at the end.

In passes of the float model over a sample, of which a quantized pass is about q,

    watched   1 + q (2 (LOOKS + 1) + 4)   its outputs; deployed and latent at each look; the start and three candidates
    judged    1 + 2 q                     its outputs; the start and the chosen plan

Each of the two may take a part of the budget. That says how many samples are used; what they then really take is
measured at each look, and the steps get the rest.
"""

import math
from dataclasses import dataclass

from edgeq.recovery.watch import MOST_WATCHED, Sizes

#: So often the held-out samples are looked at after the start.
LOOKS = 8
#: t* and I are read half way and at the end, after the start.
HALF = 0.5
_COMPARED = 4
#: Part of the budget for the watched samples, and as much for the judging ones: steps are what a run is for.
_PART = 1 / 6
_QUANTIZED = 1.5
_WATCHED_PASSES = 1 + _QUANTIZED * (2 * (LOOKS + 1) + _COMPARED)
_JUDGED_PASSES = 1 + _QUANTIZED * 2
#: Fewer samples say nothing, whatever the budget.
_FEWEST = 32
#: Fewer steps are not worth the judgement: nothing is trained then.
FEWEST_STEPS = 16


def affordable(count: int, seconds_per_pass: float, budget: float) -> Sizes:
    """What a budget has the time for.

    Args:
        count: of the held-out samples.
        seconds_per_pass: of the float model over one of them.
        budget: in seconds.
    """
    passes = _PART * budget / seconds_per_pass
    watched = min(max(int(passes / _WATCHED_PASSES), _FEWEST), MOST_WATCHED)
    judging = max(int(passes / _JUDGED_PASSES), _FEWEST)
    return Sizes(min(count, watched + judging), watched)


def reserved(progress: float, scoring: float, locating: float, judging: float) -> float:
    """Seconds that are no steps' from here on.

    Args:
        progress: of the run, in [0, 1].
        scoring: seconds of one pass of the quantized model over the watched samples.
        locating: seconds that reading t* and I takes.
        judging: how many samples judge, for each that is watched.
    """
    looks = LOOKS - math.floor(progress * LOOKS)
    locations = 2 if progress < HALF else 1
    return looks * 2 * scoring + locations * locating + (_COMPARED + 2 * judging) * scoring


@dataclass(frozen=True)
class Outlook:
    """What a budget in time holds from some moment on, in seconds.

    Attributes:
        budget: all of it.
        elapsed: spent until now.
        reserved: not for steps.
        per_step: of training.
    """

    budget: float
    elapsed: float
    reserved: float
    per_step: float

    @property
    def left(self) -> float:
        """For steps; negative where the reserved part does not fit."""
        return self.budget - self.elapsed - self.reserved

    def too_short(self) -> str:
        """Why a run is not begun, and what budget would do; "" where there is time enough."""
        steps = max(0, int(self.left / self.per_step))
        if steps >= FEWEST_STEPS:
            return ""
        wanted = self.elapsed + FEWEST_STEPS * self.per_step
        # A longer budget looks at more samples, until they have their two parts or there are no more.
        share = min(self.reserved / self.budget, 2 * _PART)
        needed = math.ceil(max(wanted + self.reserved, wanted / (1 - share)))
        return (
            f"{round(self.budget, 1):g} s hold {steps} steps beside looking and judging, and fewer than {FEWEST_STEPS} "
            f"are not worth it: nothing was trained; about {needed} s would do"
        )
