"""GPTQ: round column by column, and let the columns that are still free make up for each rounding error.

1. U = upper Cholesky factor of H^-1, H the covariance of the layer's input (see ``layer.py``).
2. For k = 0, 1, ...: q_k = round(w_k / s); e = (w_k - s q_k) / U_kk; w_j -= e U_kj for j > k.
Columns are done in blocks, so that the update of what lies behind a block is one matrix product. Act-order takes
columns with the largest H_kk first, each group of a convolution in an order of its own (one order for all groups of a
depthwise convolution is meaningless, and known to destroy such networks).

Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", ICLR 2023. What we changed: the target is T of ``layer.py`` (error fed from the quantized prefix);
several scales are tried for each output and the best by L kept, since a row's rounding costs little beside H's factor.
"""

import torch

from edgeq.calibration.layer import Layer

BLOCK = 64
#: Scales tried, as parts of the min-max scale.
FACTORS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3)


def gptq(problem: Layer, *, act_order: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (groups, outputs, K) and scales (groups, outputs), never worse by L than rounding to nearest on min-max."""
    base = problem.min_max_scale()
    scales = torch.stack([base * factor for factor in FACTORS])
    codes = round_columns(problem, scales, act_order=act_order)
    codes = torch.cat([codes, problem.nearest(base)[None]])
    return choose(problem, codes, torch.cat([scales, base[None]]))


def choose(problem: Layer, codes: torch.Tensor, scales: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of candidates (candidates, groups, outputs[, K]) the best by L: for each output, or for the tensor as a whole."""
    losses = torch.stack([problem.loss(c * s[:, :, None]) for c, s in zip(codes, scales, strict=True)])
    if not problem.per_channel:
        losses = losses.sum((1, 2), keepdim=True).expand_as(losses)
    best = losses.argmin(0)
    scale = scales.gather(0, best[None])[0]
    chosen = codes.gather(0, best[None, :, :, None].expand(1, *codes.shape[1:]))[0]
    return chosen, scale


def round_columns(problem: Layer, scales: torch.Tensor, *, act_order: bool = False) -> torch.Tensor:
    """The codes (candidates, groups, outputs, K) of steps 1 and 2 for given scales (candidates, groups, outputs)."""
    candidates, groups, outputs = scales.shape
    depth = problem.target.shape[2]
    order = torch.arange(depth).expand(groups, -1)
    if act_order:
        order = problem.hessian.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)
    hessian = problem.hessian.gather(1, order[:, :, None].expand(-1, -1, depth))
    factor = _upper_factor_of_inverse(hessian.gather(2, order[:, None].expand(-1, depth, -1)))
    # Candidates are further rows: H is factored once for all of them.
    scale = scales.transpose(0, 1).reshape(groups, -1)
    order = order[:, None].expand(-1, candidates * outputs, -1)
    w = problem.target.repeat(1, candidates, 1).gather(2, order)
    codes = torch.empty_like(w)
    for start in range(0, depth, BLOCK):
        stop = min(start + BLOCK, depth)
        errors = torch.empty_like(w[:, :, start:stop])
        for k in range(start, stop):
            q = torch.clamp(torch.round(w[:, :, k] / scale), -problem.qmax, problem.qmax)
            codes[:, :, k] = q
            error = (w[:, :, k] - q * scale) / factor[:, None, k, k]
            w[:, :, k + 1 : stop] -= error[:, :, None] * factor[:, None, k, k + 1 : stop]
            errors[:, :, k - start] = error
        w[:, :, stop:] -= errors @ factor[:, start:stop, stop:]
    codes = torch.empty_like(codes).scatter_(2, order, codes)
    return codes.reshape(groups, candidates, outputs, depth).transpose(0, 1)


def _upper_factor_of_inverse(hessian: torch.Tensor) -> torch.Tensor:
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    factor: torch.Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor
