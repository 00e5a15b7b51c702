"""How far a quantized model's outputs are from the float model's on samples that it was not calibrated on.

Class scores (samples, classes) and those of tokens (samples, positions, classes): mean KL divergence of the softmax, in
nats. Anything else: squared error relative to the output's variance. No labels are needed. Used to choose between
plans, never to certify one.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.simulate import Simulation
from edgeq.task import Task, guess_task, is_distribution

Inputs = Sequence[tuple[torch.Tensor, ...]]


def float_outputs(graph: Graph, samples: Inputs) -> list[tuple[torch.Tensor, ...]]:
    """The float model's outputs, batch by batch."""
    return _outputs(to_torch(graph), samples)


def divergence(
    graph: Graph,
    plan: Plan,
    samples: Inputs,
    reference: Sequence[tuple[torch.Tensor, ...]],
    *,
    weights: bool = True,
) -> float:
    """The distance of the plan's simulation from the reference, summed over the model's outputs; infinite for NaN.

    Args:
        graph: the model.
        plan: the candidate.
        samples: to judge on, batch by batch.
        reference: of :func:`float_outputs`.
        weights: False leaves them in float: what is left is what the quantized activations cost alone.
    """
    found = _outputs(Simulation(graph, plan).enable(weights=weights), samples)
    total = 0.0
    for position in range(len(reference[0])):
        real = torch.cat([batch[position] for batch in reference])
        quantized = torch.cat([batch[position] for batch in found])
        task = guess_task(samples[0][0].numpy(), (real[: len(samples[0][0])].numpy(),))
        total += _distance(task, real, quantized)
    return total if total == total else float("inf")


def _distance(task: Task, real: torch.Tensor, quantized: torch.Tensor) -> float:
    if task != "values" and not is_distribution(real.numpy()):
        log_p, log_q = functional.log_softmax(real.double(), -1), functional.log_softmax(quantized.double(), -1)
        return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())
    spread = (real.double() - real.double().mean(0)).pow(2).mean().clamp(min=1e-12)
    return float((real.double() - quantized.double()).pow(2).mean() / spread)


@torch.no_grad()
def _outputs(module: nn.Module, samples: Inputs) -> list[tuple[torch.Tensor, ...]]:
    results = (module(*inputs) for inputs in samples)
    return [result if isinstance(result, tuple) else (result,) for result in results]
