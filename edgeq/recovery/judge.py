"""Which of a run's plans is its best, and how good a plan is: always by a simulation made anew from the plan.

What is judged is what will be exported; latent weights are forgotten.
"""

import math
from collections.abc import Sequence

import torch

from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.recovery.logits import as_outputs, leave_softmax
from edgeq.recovery.teacher import laid_out
from edgeq.recovery.trainer import Trainer
from edgeq.recovery.watch import HeldOut, Scores
from edgeq.simulate import Simulation


class Judge:
    """Scores plans of one graph."""

    def __init__(self, graph: Graph, device: torch.device) -> None:
        self.graph, self.device = graph, device

    def scores(self, plan: Plan, samples: HeldOut) -> Scores:
        """What the plan does on these samples."""
        simulation = Simulation(self.graph, plan)
        leave_softmax(simulation.module)
        simulation.to(self.device)
        return samples.scores(lambda inputs: as_outputs(simulation(*(laid_out(x, self.device) for x in inputs))))

    def best(self, plans: Sequence[Plan], samples: HeldOut) -> tuple[Plan, Scores]:
        """The plan with the lowest mean divergence, softened, and its scores; the first of equals."""
        found = [self.scores(plan, samples) for plan in plans]
        finite = [scores.mean_soft if math.isfinite(scores.mean_soft) else math.inf for scores in found]
        chosen = finite.index(min(finite))
        return plans[chosen], found[chosen]


def candidates(trainer: Trainer, best: list[torch.Tensor], steps: int, method: str) -> tuple[Plan, ...]:
    """Plans of where a run ended, of its moving average, and of the best point seen (if it was another).

    The trainer is left at the last of them.
    """
    plans = [trainer.simulation.plan(method)]
    if trainer.recipe.average > 0 and steps > 0:
        with trainer.average.applied():
            plans.append(trainer.simulation.plan(method))
    if best:
        trainer.put(best)
        plans.append(trainer.simulation.plan(method))
    return tuple(plans)
