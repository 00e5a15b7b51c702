"""Coordinate descent on the codes: move single codes while that lowers L, and refit the scale between sweeps.

    code_k <- clamp(round((s q_k + ((T - s q) H)_k / H_kk) / s)),      s <- (q H T') / (q H q')

Each step minimizes L exactly over one code (all outputs at once) or over one scale, so L never rises. The idea is that
of QuantEase (Behdin et al., arXiv 2309.01885, 2023); the scale's step is ordinary least squares.
"""

import torch

from edgeq.calibration.gptq import Best, gptq
from edgeq.calibration.layer import Layer, nearest_code

SWEEPS = 4


def descend(
    problem: Layer, codes: torch.Tensor, scale: torch.Tensor, sweeps: int = SWEEPS, *, refit: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Better codes (groups, outputs, K) and scales; never worse by L than those given.

    Scales of blocks, and powers of two, stay as they are.
    """
    refit = refit and not problem.block and not problem.power_of_two
    diagonal = problem.hessian.diagonal(dim1=1, dim2=2)
    codes, scale = codes.clone(), scale.clone()
    parity = None if problem.wide_parity is None else problem.wide_parity.expand_as(codes)
    for _ in range(sweeps):
        if refit:
            scale = best_scale(problem, codes, scale)
        wide = problem.wide(scale).expand_as(codes)
        pull = (problem.target - codes * wide) @ problem.hessian
        changed = 0
        for k in range(codes.shape[2]):
            wanted = codes[:, :, k] + pull[:, :, k] / (diagonal[:, None, k] * wide[:, :, k])
            q = nearest_code(wanted, problem.qmax, None if parity is None else parity[:, :, k])
            step = q - codes[:, :, k]
            if bool(step.any()):
                changed += int(step.count_nonzero())
                pull -= (step * wide[:, :, k])[:, :, None] * problem.hessian[:, None, k]
                codes[:, :, k] = q
        if changed == 0:
            break
    return codes, best_scale(problem, codes, scale) if refit else scale


def best_scale(problem: Layer, codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The scales of least L for these codes; the given ones where that is not positive."""
    weighed = codes @ problem.hessian
    up, down = (weighed * problem.target).sum(2), (weighed * codes).sum(2)
    if not problem.per_channel:
        up, down = up.sum().expand_as(up), down.sum().expand_as(down)
    found = up / down.clamp(min=1e-300)
    return torch.where((down > 0) & (found > 0), found, scale)


def gptq_descent(problem: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """GPTQ, then coordinate descent from it; the better of both by L."""
    best = Best(problem)
    best.offer(*gptq(problem))
    best.offer(*descend(problem, best.codes, best.scale))
    return best.codes, best.scale
