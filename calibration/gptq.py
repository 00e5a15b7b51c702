"""GPTQ: round column by column, and let the columns that are still free make up for each rounding error.

1. U = upper Cholesky factor of H^-1, H the covariance of the layer's input (see ``layer.py``).
2. For k = 0, 1, ...: q_k = round(w_k / s); e = (w_k - s q_k) / U_kk; w_j -= e U_kj for j > k.
3. The sum of e^2 is L itself: of several scales tried for each output, the best is kept without a further product.
Columns are done in blocks, so that the update of what lies behind a block is one matrix product. Act-order takes
columns with the largest H_kk first, each group of a convolution in an order of its own (one order for all groups of a
depthwise convolution is meaningless, and known to destroy such networks).

Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", ICLR 2023. What we changed: the target is T of ``layer.py`` (error fed from the quantized prefix);
several scales are tried, since a row's rounding costs little beside H's factor.
"""

from collections.abc import Iterator

import torch

from edgeq.calibration.layer import Layer, nearest_code

BLOCK = 32
#: Scales tried, as parts of the min-max scale.
FACTORS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3)
#: Numbers that are rounded at a time: as many scales at once as keep memory small (32 MB for each array of them).
AT_A_TIME = 1 << 22


def gptq(problem: Layer, *, act_order: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (groups, outputs, K) and scales, never worse by L than rounding to nearest on min-max."""
    base = problem.min_max_scale()
    scales = torch.stack([base * factor for factor in FACTORS])
    scales = problem.storable(scales)
    best = Best(problem)
    best.offer(problem.nearest(base), base)
    for part, codes, losses in _rounded(problem, scales, act_order):
        for scale, code, loss in zip(part, codes, losses, strict=True):
            best.offer(code, scale, loss)
    return best.codes, best.scale


class Best:
    """The best by L of the candidates offered: for each output, or for the tensor where it has one scale."""

    def __init__(self, problem: Layer) -> None:
        self.problem = problem
        self.codes = self.scale = self.loss = torch.empty(0)

    def offer(self, codes: torch.Tensor, scale: torch.Tensor, loss: torch.Tensor | None = None) -> None:
        """Codes (groups, outputs, K) on their scales, and their L (groups, outputs) if it is known."""
        loss = self.problem.loss(codes * self.problem.wide(scale)) if loss is None else loss
        if not self.problem.per_channel:
            loss = loss.sum().expand_as(loss)
        if not self.loss.numel():
            self.codes, self.scale, self.loss = codes, scale, loss
            return
        better = loss < self.loss
        self.codes = torch.where(better[:, :, None], codes, self.codes)
        self.loss = torch.where(better, loss, self.loss)
        self.scale = torch.where(better[:, :, None] if scale.ndim == 3 else better, scale, self.scale)


def round_columns(problem: Layer, scales: torch.Tensor, *, act_order: bool = False) -> torch.Tensor:
    """The codes (candidates, groups, outputs, K) of steps 1 and 2 for scales (candidates, groups, outputs ...)."""
    return torch.cat([codes for _, codes, _ in _rounded(problem, scales, act_order)])


def _rounded(
    problem: Layer, scales: torch.Tensor, act_order: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(scales, codes, L) of a few candidates at a time: H is factored once for all of them."""
    groups, outputs, depth = problem.target.shape
    order = torch.arange(depth).expand(groups, -1)
    hessian = problem.hessian
    if act_order:
        order = hessian.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)
        hessian = hessian.gather(1, order[:, :, None].expand(-1, -1, depth))
        hessian = hessian.gather(2, order[:, None].expand(-1, depth, -1))
    factor = _upper_factor_of_inverse(hessian)
    # Columns first: each step then reads and writes memory in one piece.
    target = problem.target.transpose(1, 2).gather(1, order[:, :, None].expand(-1, -1, outputs))
    for part in torch.split(scales, max(1, AT_A_TIME // problem.target.numel())):
        w = target.repeat(1, 1, len(part))
        # A scale for each column, by its place before it was moved.
        scale = part.transpose(0, 1).flatten(1, 2)
        parity = None if problem.parity is None else problem.parity.repeat(1, len(part), *[1] * (scale.ndim - 2))
        of_column = order // problem.block if problem.block else None
        codes, loss = _round(w, scale, parity, factor, problem.qmax, of_column)
        codes = torch.empty_like(codes).scatter_(1, order[:, :, None].expand_as(codes), codes)
        shaped = codes.transpose(1, 2).reshape(groups, len(part), outputs, depth).transpose(0, 1)
        yield part, shaped, loss.reshape(groups, len(part), outputs).transpose(0, 1)


def _round(
    w: torch.Tensor,
    scales: torch.Tensor,
    parities: torch.Tensor | None,
    factor: torch.Tensor,
    qmax: int,
    of_column: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (groups, K, rows) and L (groups, rows) of targets w, which are used up.

    Scales and parities are (groups, rows), or (groups, rows, blocks) with the block of each column, (groups, K).
    """
    depth = w.shape[1]
    codes, loss = torch.empty_like(w), torch.zeros_like(w[:, 0])
    scale, parity = scales, parities
    for start in range(0, depth, BLOCK):
        stop = min(start + BLOCK, depth)
        errors = torch.empty_like(w[:, start:stop])
        for k in range(start, stop):
            if of_column is not None:
                place = of_column[:, k, None, None].expand(-1, scales.shape[1], 1)
                scale = scales.gather(2, place)[:, :, 0]
                parity = None if parities is None else parities.gather(2, place)[:, :, 0]
            q = nearest_code(w[:, k] / scale, qmax, parity)
            codes[:, k] = q
            error = torch.addcmul(w[:, k], q, scale, value=-1).div_(factor[:, k, k, None])
            if k + 1 < stop:
                w[:, k + 1 : stop].baddbmm_(factor[:, k, k + 1 : stop, None], error[:, None], alpha=-1)
            errors[:, k - start] = error
        loss += errors.square().sum(1)
        if stop < depth:
            w[:, stop:].baddbmm_(factor[:, start:stop, stop:].transpose(1, 2), errors, alpha=-1)
    return codes, loss


def _upper_factor_of_inverse(hessian: torch.Tensor) -> torch.Tensor:
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    factor: torch.Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor
