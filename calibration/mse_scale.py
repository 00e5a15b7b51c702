"""MSE scale search: round to nearest on the scale of least squared weight error.

    minimize over s   sum_i (w_i - s clamp(round(w_i / s)))^2      for each output channel

by trying ``FACTORS`` of the min-max scale. It looks at weights alone, so it shrinks outputs and shifts their means: at
3 and 2 bits a smaller weight error can even cost accuracy unless the bias and the variance are corrected afterwards,
which ``sequential.py`` does.
"""

from dataclasses import replace

import torch

from edgeq.calibration.layer import Layer

FACTORS = tuple(round(1.0 - 0.02 * i, 2) for i in range(40))


def mse_scale(problem: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (groups, outputs, K) and scales; the input's moments are not used."""
    if problem.block:
        return _in_blocks(problem)
    base = problem.min_max_scale()
    scales = problem.storable(torch.stack([base * factor for factor in FACTORS]))
    losses = torch.stack([(problem.weight - problem.nearest(s) * s[:, :, None]).pow(2).sum(2) for s in scales])
    if not problem.per_channel:
        losses = losses.sum((1, 2), keepdim=True).expand_as(losses)
    scale = scales.gather(0, losses.argmin(0)[None])[0]
    return problem.nearest(scale), scale


def _in_blocks(problem: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """Each block of an output as an output of its own."""
    groups, outputs, depth = problem.weight.shape
    cut = problem.weight.reshape(groups, -1, problem.block)
    parity = None if problem.parity is None else problem.parity.flatten(1)
    _, scale = mse_scale(replace(problem, weight=cut, target=cut, block=0, parity=parity))
    stored = problem.storable(scale.reshape(groups, outputs, depth // problem.block))
    return problem.nearest(stored), stored


def min_max(problem: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """Round to nearest on the scale that just covers the weights."""
    scale = problem.min_max_scale()
    return problem.nearest(scale), scale
