"""When to stop: a budget in time, steps or samples; inside the basin; not finite. And an early word of failure."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgeq.errors import UsageError

_PATTERN = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[a-z]*)")
_SECONDS = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}

#: Mean KL, in nats, under which nothing is left to recover: 5- and 6-bit weights lie there, as accurate as float.
INSIDE = 0.002
#: The basin's edge for classifiers, in nats (the diagnostic's tau).
BASIN = 0.05
#: Part of the budget after which a run is told what will come of it.
_A_GOOD_PART = 0.4
#: Why a run is stopped whose budget would be better spent otherwise.
GAVE_UP = "training does not lower the divergence as it should; stopped early"


@dataclass(frozen=True)
class Budget:
    """How much recovery may cost; exactly one of the three is set.

    Attributes:
        seconds: of wall-clock time, from the start to the judgement.
        steps: updates.
        samples: samples seen, repetitions counted.
    """

    seconds: float | None = None
    steps: int | None = None
    samples: int | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.seconds, self.steps, self.samples) if value is not None]
        if len(given) != 1 or not given[0] > 0 or not math.isfinite(given[0]):
            raise UsageError("a recovery budget is one positive number: of seconds, of steps, or of samples")

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read ``30s``, ``2min``, ``1h``, ``500 steps`` or ``20000 samples``.

        Raises:
            UsageError: the text is none of these.
        """
        match = _PATTERN.fullmatch(text.strip().lower())
        if match is not None:
            number, unit = float(match.group("number")), match.group("unit")
            if unit in _SECONDS:
                return cls(seconds=number * _SECONDS[unit])
            if unit in ("step", "steps") and number == int(number):
                return cls(steps=int(number))
            if unit in ("sample", "samples") and number == int(number):
                return cls(samples=int(number))
        raise UsageError(f"--recover-budget {text!r}: write for example 2min, 30s, 500steps or 20000samples")

    def fixed_steps(self, batch_size: int) -> int | None:
        """How many steps it holds, or None if that depends on the machine."""
        if self.samples is not None:
            return max(1, self.samples // batch_size)
        return self.steps

    def less(self, steps: int, seconds: float, batch_size: int) -> "Budget | None":
        """What is left after so much, or None if that is nothing."""
        if self.seconds is not None:
            return Budget(seconds=self.seconds - seconds) if self.seconds > seconds else None
        if self.steps is not None:
            return Budget(steps=self.steps - steps) if self.steps > steps else None
        assert self.samples is not None
        left = self.samples - steps * batch_size
        return Budget(samples=left) if left >= batch_size else None


@dataclass(frozen=True)
class Point:
    """One point of the curve, on held-out samples.

    Attributes:
        step: after how many updates.
        progress: in [0, 1].
        deployed: divergence of the quantized model.
        latent: divergence of the latent weights, unquantized.
        agreement: share of samples with the float model's decision; NaN where there are no decisions.
        flipped: share of the weight codes that differ from the start.
        seconds: since the start, earlier parts of an interrupted run included.
        t_star: where the basin's edge lies (``whereabouts``); NaN where it was not read, as at most points.
        inward: I there; NaN likewise.
    """

    step: int
    progress: float
    deployed: float
    latent: float
    agreement: float
    flipped: float
    seconds: float
    t_star: float = math.nan
    inward: float = math.nan


def why_stop(curve: Sequence[Point], inside: float) -> str:
    """The reason to stop before the budget is spent, or ""."""
    last = curve[-1]
    if not math.isfinite(last.deployed):
        return "the loss is not finite"
    if last.deployed <= inside:
        return f"inside the basin: held-out divergence {last.deployed:.4f} is at most {inside:g}"
    return ""


@dataclass(frozen=True)
class Demand:
    """What a run must have reached, or it is stopped.

    Attributes:
        after: which part of the budget.
        part: of the start's divergence that is not exceeded then.
    """

    after: float
    part: float


def is_hopeless(curve: Sequence[Point], demand: Demand) -> bool:
    """Whether the run has not reached what is demanded, when it should have."""
    due = curve[-1].progress >= demand.after
    return due and min(point.deployed for point in curve[1:]) > demand.part * curve[0].deployed


def warning(curve: Sequence[Point], basin: float = BASIN) -> str:
    """What to say early if the run will not get into the basin, or "".

    The divergence of a run that works falls about geometrically; its last rate of fall is extended to the end.
    """
    if len(curve) < 3 or curve[-1].progress < _A_GOOD_PART:
        return ""
    first, last = curve[0], curve[-1]
    middle = curve[-1 - max(1, len(curve) // 3)]
    if last.deployed > first.deployed:
        share = f"{last.progress:.0%}"
        return f"after {share} of the budget the divergence is above its start: too high a rate, or too few bits"
    gained = max(last.progress - middle.progress, 1e-9)
    fall = math.log(max(middle.deployed, 1e-12) / max(last.deployed, 1e-12)) / gained
    expected = last.deployed * math.exp(-max(fall, 0.0) * (1 - last.progress))
    if expected <= basin:
        return ""
    return (
        f"at this pace the divergence ends near {expected:.2f}, outside of the basin ({basin:g}); "
        "a larger budget, or more bits for the layers that the diagnosis blames, will help"
    )
