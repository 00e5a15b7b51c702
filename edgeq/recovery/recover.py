"""Recovery: short quantization-aware training from any plan, without labels, that is never worse.

1. Score the start on held-out samples; stop at once if it is inside the basin.
2. Measure how many steps the budget holds.
3. Train with the float model as teacher (``trainer``), the rate rising and falling once (``schedule``).
4. At some points of the way: deployed and latent loss on the watched half of the held-out samples; stop inside the
   basin; warn early; correct the pace; write a checkpoint.
5. Candidates: where it ended, the moving average, the best point seen. The watched half chooses.
6. The judging half, not used before, compares the chosen plan with the start; only a significant gain is kept.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.recovery.outcome import Options, Progress, RecoveryResult
from edgeq.recovery.rates import Recipe
from edgeq.recovery.run import Run
from edgeq.recovery.samples import Inputs, Samples
from edgeq.recovery.stopping import Budget


def recover(
    graph: Graph,
    plan: Plan,
    samples: Samples,
    held_out: Sequence[Inputs],
    budget: Budget,
    *,
    labels: Sequence[torch.Tensor] | None = None,
    recipe: Recipe | None = None,
    options: Options | None = None,
    checkpoint_file: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> RecoveryResult:
    """Train the plan's scales, codes and biases; give back the better of it and the start.

    Equal arguments give equal results, whether interrupted and resumed or not; a budget in time gives as many steps as
    the machine makes of it.

    Args:
        graph: the float model, the teacher.
        plan: the start, of any method.
        samples: unlabelled, to train on.
        held_out: unlabelled batches, disjoint from ``samples``; some hundreds of samples.
        budget: how long.
        labels: of the held-out samples, batch by batch: they only judge.
        recipe: how fast everything learns.
        options: the rest.
        checkpoint_file: written as it goes; if it is there already, the run goes on from it.
        progress: called after each update.

    Raises:
        DataError: too few samples, or samples that do not fit the model.
        UsageError: the checkpoint belongs to another run.
        PlanError: the recovered plan breaks a rule (a fault of edgeq).
    """
    run = Run(graph, plan, samples, held_out, labels, budget, recipe or Recipe(), options or Options(), checkpoint_file)
    run.begin()
    run.train(progress)
    return run.finish()
