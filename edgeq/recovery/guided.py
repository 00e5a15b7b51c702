"""Recovery led by the diagnosis: train where the verdict says that training can work, and else do what helps.

    inside, broken   nothing to train; the reason is told
    slope, exit      train at the bits that were asked for
    far              the same, but more is demanded of it

A run that does not bring the divergence down as demanded is stopped, and what is left of the budget goes to more bits
for the layers to blame, which are then trained. Far out training seldom finds the way back into the basin, yet it may
bring back most of the decisions, or none of them; a quarter of the budget tells. A wider plan replaces the asked one
only where held-out samples show that it is better, and what was done is told in words.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.recovery.judge import Judge
from edgeq.recovery.keep import Witness, why_not_kept
from edgeq.recovery.outcome import Options, Progress, RecoveryResult
from edgeq.recovery.recover import recover
from edgeq.recovery.samples import Inputs, Samples
from edgeq.recovery.stopping import GAVE_UP, Budget, Demand

#: What a training at the asked bits must reach, and far out.
_DEMAND, _FAR_DEMAND = Demand(0.4, 1.0), Demand(0.25, 0.75)
#: No more layers than this get more bits.
_MOST_WIDENED = 4


@dataclass(frozen=True)
class Advice:
    """What the diagnosis says.

    Attributes:
        verdict: inside, slope, exit, far or broken.
        cause: in words.
        blame: (layer, its share of D), worst first.
    """

    verdict: str
    cause: str
    blame: tuple[tuple[str, float], ...] = ()

    def blamed(self) -> tuple[str, ...]:
        """The fewest layers that make up half of the blame."""
        total = sum(max(share, 0.0) for _, share in self.blame)
        found: list[str] = []
        reached = 0.0
        for layer, share in self.blame[:_MOST_WIDENED]:
            if reached >= total / 2:
                break
            found.append(layer)
            reached += max(share, 0.0)
        return tuple(found)


@dataclass(frozen=True, eq=False)
class Guided:
    """What came of it.

    Attributes:
        plan: the best.
        kept: whether it is another than the start.
        did: what was done and why, in order.
        widened: the layers that got more bits in ``plan``.
        runs: the trainings, in order.
    """

    plan: Plan
    kept: bool
    did: tuple[str, ...]
    widened: tuple[str, ...] = ()
    runs: tuple[RecoveryResult, ...] = ()


def guided(
    graph: Graph,
    plan: Plan,
    samples: Samples,
    held_out: Sequence[Inputs],
    budget: Budget,
    advice: Advice,
    widen: Callable[[tuple[str, ...]], Plan],
    *,
    options: Options | None = None,
    checkpoint_file: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Guided:
    """Recover as the advice says; the arguments that are not named here are those of ``recover``.

    Args:
        graph: the float model.
        plan: the start.
        samples: to train on.
        held_out: to judge by.
        budget: for all of it.
        advice: the diagnosis of ``plan``.
        widen: gives the plan in which these layers have more bits.
        options: of each training.
        checkpoint_file: of the first training; a second one's lies beside it.
        progress: told of each update.

    Raises:
        DataError: too few samples.
    """
    said = f"{advice.verdict}: {advice.cause}"
    if advice.verdict in ("inside", "broken"):
        return Guided(plan, False, (f"{said}; nothing to train",))
    options = options or Options()
    demand = _FAR_DEMAND if advice.verdict == "far" else _DEMAND
    first = recover(
        graph, plan, samples, held_out, budget, options=replace(options, demand=demand),
        checkpoint_file=checkpoint_file, progress=progress,
    )  # fmt: skip
    did = [said, f"trained {first.steps} steps: {first.reason}"]
    plan, left = first.plan, budget.less(first.steps, first.seconds, samples.batch_size)
    if first.stopped != GAVE_UP or left is None:
        return Guided(plan, first.kept, tuple(did), runs=(first,))
    did.append(GAVE_UP)
    layers = advice.blamed()
    if not layers:
        did.append("no layer stands out to be given more bits")
        return Guided(plan, first.kept, tuple(did), runs=(first,))
    second = recover(
        graph, widen(layers), samples, held_out, left, options=options,
        checkpoint_file=None if checkpoint_file is None else checkpoint_file.with_suffix(".wider"), progress=progress,
    )  # fmt: skip
    did.append(f"more bits for {', '.join(layers)}, then trained {second.steps} steps: {second.reason}")
    why_not = _why_not_better(graph, plan, second, options)
    if why_not:
        did.append(f"the wider plan is not taken: {why_not}")
        return Guided(plan, first.kept, tuple(did), runs=(first, second))
    return Guided(second.plan, True, tuple(did), layers, (first, second))


def _why_not_better(graph: Graph, plan: Plan, other: RecoveryResult, options: Options) -> str:
    """On the samples that judged the other, and on those that chose it among the points of its run."""
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    judge = Judge(graph, device)
    judged = Witness(judge.scores(plan, other.judging), other.after if other.kept else other.before)
    before, after = (judge.scores(each, other.watched) for each in (plan, other.plan))
    return why_not_kept(judged, Witness(before, after, len(other.curve) + 1))
