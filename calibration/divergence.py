"""How far a quantized model's outputs are from the float model's on samples that it was not calibrated on.

Class scores (samples, classes) and those of tokens (samples, positions, classes): mean KL divergence of the softmax, in
nats. Anything else: squared error relative to the output's variance. No labels are needed. Used to choose between
plans, never to certify one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import nn
from torch.nn import functional

from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.simulate import Simulation
from edgeq.task import guess_task, is_distribution, softening

Inputs = Sequence[tuple[torch.Tensor, ...]]


#: How probable a difference as large may be between plans that are equally near, to be called shown.
_LEVEL = 0.05


@dataclass(frozen=True)
class Distance:
    """Of a plan's simulation from the float model, summed over the outputs.

    Attributes:
        divergence: in nats, or relative to the variance: what is left to gain; infinite for NaN.
        each: of each sample, softened by a temperature (``edgeq.task``), times its square.
    """

    divergence: float
    each: tuple[float, ...]

    @property
    def soft(self) -> float:
        """The mean of ``each``: which of two plans is nearer; infinite for NaN."""
        return _mean(self.each)

    def shown_above(self, other: "Distance") -> bool:
        """Whether the samples show that the other is nearer: Student's paired t-test, one-sided."""
        if not math.isfinite(self.soft):
            return math.isfinite(other.soft)
        excess = np.array(self.each) - other.each
        count = len(excess)
        error = float(excess.std(ddof=1)) / count**0.5 if count > 1 else math.inf
        return bool(excess.mean() > float(stats.t.isf(_LEVEL, max(1, count - 1))) * error)


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
    hard = soft = torch.zeros(())
    counts = [len(batch[0]) for batch in reference]
    for position in range(len(reference[0])):
        real, quantized = (_joined([batch[position] for batch in side], counts) for side in (reference, found))
        task = guess_task(samples[0][0].numpy(), (real[: len(samples[0][0])].numpy(),))
        if task == "values" or is_distribution(real.numpy()):
            plain = softened = _squared_error(real, quantized)
        else:
            t, plain = softening(task), _kl(real, quantized)
            softened = plain if t == 1 else t * t * _kl(real / t, quantized / t)
        hard, soft = hard + _of_samples(plain, sum(counts)), soft + _of_samples(softened, sum(counts))
    return Distance(_mean(hard.tolist()), tuple(soft.tolist()))


def _mean(each: Sequence[float]) -> float:
    mean = math.fsum(each) / len(each)
    return math.inf if math.isnan(mean) else mean


def _joined(batches: Sequence[torch.Tensor], counts: Sequence[int]) -> torch.Tensor:
    """All batches, samples first: in a recurrent model's state, (layers, samples, numbers), they are another axis."""
    axes = range(batches[0].ndim)
    fits = (a for a in axes if all(t.shape[a] == count for t, count in zip(batches, counts, strict=True)))
    axis = next(fits, 0)
    return torch.cat([batch.movedim(axis, 0) for batch in batches]).double()


def _of_samples(error: torch.Tensor, count: int) -> torch.Tensor:
    """The mean of each sample's numbers; of all where an output has no axis of samples."""
    if error.numel() % count:
        return error.mean().expand(count)
    return error.reshape(count, -1).mean(1)


def _kl(real: torch.Tensor, quantized: torch.Tensor) -> torch.Tensor:
    log_p, log_q = functional.log_softmax(real, -1), functional.log_softmax(quantized, -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def _squared_error(real: torch.Tensor, quantized: torch.Tensor) -> torch.Tensor:
    spread = (real - real.mean(0)).pow(2).mean().clamp(min=1e-12)
    return (real - quantized).pow(2) / spread


@torch.no_grad()
def _outputs(module: nn.Module, samples: Inputs) -> list[tuple[torch.Tensor, ...]]:
    results = (module(*inputs) for inputs in samples)
    return [result if isinstance(result, tuple) else (result,) for result in results]
