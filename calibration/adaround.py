"""AdaRound: learn for each weight whether to round down or up.

    minimize over V    L(s clamp(floor(T / s) + h(V)))  +  lambda sum (1 - |2 h(V) - 1|^beta)

h(V) = clamp(sigmoid(V) 1.2 - 0.1, 0, 1) is the rectified sigmoid; beta falls from 20 to 2, which lets V move first and
then drives h to 0 or 1. L is the layer's measure of ``layer.py``, which holds all samples in H, so a step costs a
matrix product and no pass over data.

Nagel, Amjad, van Baalen, Louizos, Blankevoort, "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML
2020. What we changed: L instead of mini-batches; the scale is the best that GPTQ found; the result is kept only where
it is better by L than GPTQ's.
"""

import torch

from edgeq.calibration.gptq import Best, gptq
from edgeq.calibration.layer import Layer

STEPS = 400
LEARNING_RATE = 0.05
WARM_UP = 0.2
REGULARIZATION = 0.02


def adaround(problem: Layer, steps: int = STEPS) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (groups, outputs, K) and scales, never worse by L than GPTQ's. Deterministic."""
    codes, scale = gptq(problem)
    best = Best(problem)
    best.offer(codes, scale)
    best.offer(learn(problem, codes, scale, steps), scale)
    return best.codes, best.scale


def learn(problem: Layer, codes: torch.Tensor, scale: torch.Tensor, steps: int = STEPS) -> torch.Tensor:
    """Codes (groups, outputs, K) from gradient descent on V, started at the fractional part of the target."""
    wide = problem.wide(scale)
    # The loss in units of each output's own step, so that one learning rate serves all.
    squared = scale.pow(2).mean(2) if problem.block else scale.pow(2)
    unit = (squared * problem.hessian.diagonal(dim1=1, dim2=2).mean(1)[:, None]).clamp(min=1e-30)
    # Where GPTQ left the neighbourhood of the target, its own code is the floor or the ceiling.
    in_steps, gap = problem.target / wide, 1 if problem.parity is None else 2
    lowest, highest = problem.ends
    below = gap * torch.floor((in_steps - lowest) / gap) + lowest
    floor = torch.minimum(torch.maximum(below, codes - gap), codes)
    fraction = torch.clamp((in_steps - floor) / gap, 0.01, 0.99)
    v = torch.logit((fraction + 0.1) / 1.2).requires_grad_()
    optimizer = torch.optim.Adam([v], lr=LEARNING_RATE)
    for step in range(steps):
        h = _rectified_sigmoid(v)
        rows = torch.clamp(floor + gap * h, lowest, highest) * wide
        loss = (problem.loss(rows) / unit).sum()
        if step >= WARM_UP * steps:
            progress = (step / steps - WARM_UP) / (1 - WARM_UP)
            beta = 2 + 18 * (1 - progress)
            loss = loss + REGULARIZATION * (1 - (2 * h - 1).abs().pow(beta)).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        return torch.clamp(floor + gap * (_rectified_sigmoid(v) >= 0.5), lowest, highest)


def _rectified_sigmoid(v: torch.Tensor) -> torch.Tensor:
    return torch.clamp(torch.sigmoid(v) * 1.2 - 0.1, 0, 1)
