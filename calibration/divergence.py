"""How far a quantized model's outputs are from the float model's on samples that it was not calibrated on.

Class scores (samples, classes) and those of tokens (samples, positions, classes): mean KL divergence of the softmax, in
nats. Anything else: squared error relative to the output's variance. No labels are needed. Used to choose between
plans, never to certify one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.simulate import Simulation
from edgeq.task import guess_task, is_distribution, softening

Inputs = Sequence[tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Distance:
    """Of a plan's simulation from the float model, summed over the outputs; infinite for NaN.

    Attributes:
        divergence: in nats, or relative to the variance: what is left to gain.
        soft: the same softened by a temperature (``edgeq.task``), times its square: which of two plans is nearer.
    """

    divergence: float
    soft: float


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
    """The plan's :attr:`Distance.divergence`; arguments as in :func:`distance`."""
    return distance(graph, plan, samples, reference, weights=weights).divergence


def distance(
    graph: Graph,
    plan: Plan,
    samples: Inputs,
    reference: Sequence[tuple[torch.Tensor, ...]],
    *,
    weights: bool = True,
) -> Distance:
    """How far the plan's simulation is from the reference.

    Args:
        graph: the model.
        plan: the candidate.
        samples: to judge on, batch by batch.
        reference: of :func:`float_outputs`.
        weights: False leaves them in float: what is left is what the quantized activations cost alone.
    """
    found = _outputs(Simulation(graph, plan).enable(weights=weights), samples)
    hard, soft = 0.0, 0.0
    for position in range(len(reference[0])):
        real = torch.cat([batch[position] for batch in reference]).double()
        quantized = torch.cat([batch[position] for batch in found]).double()
        task = guess_task(samples[0][0].numpy(), (real[: len(samples[0][0])].numpy(),))
        if task == "values" or is_distribution(real.numpy()):
            error = _squared_error(real, quantized)
            hard, soft = hard + error, soft + error
        else:
            t, plain = softening(task), _kl(real, quantized)
            hard, soft = hard + plain, soft + (plain if t == 1 else t * t * _kl(real / t, quantized / t))
    return Distance(hard if hard == hard else float("inf"), soft if soft == soft else float("inf"))


def _kl(real: torch.Tensor, quantized: torch.Tensor) -> float:
    log_p, log_q = functional.log_softmax(real, -1), functional.log_softmax(quantized, -1)
    return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())


def _squared_error(real: torch.Tensor, quantized: torch.Tensor) -> float:
    spread = (real - real.mean(0)).pow(2).mean().clamp(min=1e-12)
    return float((real - quantized).pow(2).mean() / spread)


@torch.no_grad()
def _outputs(module: nn.Module, samples: Inputs) -> list[tuple[torch.Tensor, ...]]:
    results = (module(*inputs) for inputs in samples)
    return [result if isinstance(result, tuple) else (result,) for result in results]
