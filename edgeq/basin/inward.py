"""I, the inward component: does descent from the deployed point lead back towards the basin?

    I = <grad phi(q), q - w0> = phi'(1)

with the gradient taken at the deployed weights, as plain STE takes it. Its sign is tested over minibatches: the cosine
of gradient and displacement is useless in many dimensions (near 0.005 even where I is decisive).
"""

from dataclasses import dataclass

import torch
from scipy import stats

from edgeq.basin.divergence import Reference
from edgeq.basin.landscape import Inputs, Landscape, Point

FEWEST_BATCHES = 8


@dataclass(frozen=True)
class Inward:
    """The inward component.

    Attributes:
        value: I, the mean over minibatches.
        by_batch: I of every minibatch.
        p_value: of the hypothesis that I is as often negative as positive (one-sided sign test).
    """

    value: float
    by_batch: tuple[float, ...]
    p_value: float


def inward(landscape: Landscape, reference: Reference, *, activations: bool, batches: int = FEWEST_BATCHES) -> Inward:
    """I on at least ``batches`` minibatches, made from the samples by splitting."""
    parts = reference.rebatched(max(1, -(-len(reference) // batches)))
    d = landscape.difference()
    found, sizes = [], []
    for inputs, z0 in parts:
        gradients = gradient(landscape, landscape.deployed, inputs, z0, reference, 1.0 if activations else 0.0)
        found.append(sum(float((gradients[name] * d[name]).sum()) for name in gradients))
        sizes.append(len(z0[0]))
    positive = sum(value > 0 for value in found)
    value = sum(v * n for v, n in zip(found, sizes, strict=True)) / sum(sizes)
    p_value = float(stats.binomtest(positive, len(found), 0.5, alternative="greater").pvalue)
    return Inward(value, tuple(found), p_value)


def gradient(
    landscape: Landscape,
    point: Point,
    inputs: Inputs,
    z0: tuple[torch.Tensor, ...],
    reference: Reference,
    blend: float,
) -> dict[str, torch.Tensor]:
    """d mean(phi) / d parameter at a point, by parameter name."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in point.items()}
    phi = reference.divergence(landscape.run(leaves, inputs, blend), z0).mean()
    found = torch.autograd.grad(phi, list(leaves.values()), allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if g is None else g for (name, leaf), g in zip(leaves.items(), found, strict=True)
    }
