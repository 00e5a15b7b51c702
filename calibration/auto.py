"""``--method auto``: start cheap, and go on to the next method only while that is worth it.

1. Round to nearest. If the simulation is within ``CLOSE`` of the float model on held-out samples, stop.
2. Go through ``LADDER``; after each method, stop if the result is close, or if the step brought less than ``WORTH`` of
   the remaining divergence twice in a row.
The plan nearest to the float model on the held-out samples is kept, so no step can make the result worse there.
"""

from dataclasses import dataclass

from edgeq.calibration.divergence import Inputs, divergence, float_outputs
from edgeq.calibration.methods import Method, method
from edgeq.calibration.ranges import Ranges
from edgeq.calibration.sequential import UnitProgress
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan, Skeleton

#: Nats of KL divergence (or relative squared error) below which better rounding cannot be told from worse.
CLOSE = 0.002
#: A step that removes less than this part of the divergence was not worth its time.
WORTH = 0.1

LADDER: tuple[Method, ...] = tuple(method(n) for n in ("nearest", "gptq", "gptq+variance", "descent", "adaround"))


@dataclass(frozen=True, eq=False)
class Choice:
    """What auto did.

    Attributes:
        plan: the best one.
        tried: (method, divergence on the held-out samples) in the order tried.
        reason: why it stopped.
    """

    plan: Plan
    tried: tuple[tuple[str, float], ...]
    reason: str


def choose_method(
    graph: Graph,
    skeleton: Skeleton,
    ranges: Ranges,
    samples: Inputs,
    held_out: Inputs,
    *,
    close: float = CLOSE,
    progress: UnitProgress | None = None,
) -> Choice:
    """The best plan of the ladder, up to where it stopped being worth it.

    Args:
        graph: the model.
        skeleton: what is integer, with how many bits.
        ranges: of the quantized values.
        samples: to calibrate on, batch by batch.
        held_out: to judge on; other samples.
        close: divergence at which to stop.
        progress: called after each unit of each method.
    """
    reference = float_outputs(graph, held_out)
    tried: list[tuple[str, float]] = []
    best: Plan | None = None
    idle = 0
    for rung in LADDER:
        plan = rung(graph, skeleton, ranges, samples, progress=progress)
        found = divergence(graph, plan, held_out, reference)
        least = min((value for _, value in tried), default=float("inf"))
        tried.append((rung.name, found))
        if best is None or found < least:
            best = plan
        idle = 0 if found < least * (1 - WORTH) else idle + 1
        if min(found, least) <= close:
            return Choice(best, tuple(tried), f"{best.method} is within {close} of the float model")
        if idle == 2:
            return Choice(best, tuple(tried), f"two methods in a row brought less than {WORTH:.0%}")
    assert best is not None
    return Choice(best, tuple(tried), "every method was tried")


__all__ = ["LADDER", "Choice", "choose_method"]
