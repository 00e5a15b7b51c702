"""Matrix products of two activations: exact sums, requantized as each runtime does it.

TFLite runs BATCH_MATMUL in its own fixed-point kernel, but LiteRT's XNNPACK delegate takes it where the right operand's
zero point is 0, and requantizes in float32 then.
"""

import torch

from edgeq.simulate.kernels.family import Kernel, Operands, Requantize, float32, saturate


def matmul(requantize: Requantize) -> Kernel:
    """The product (a - za)(b - zb), requantized with the input scale sa and the weight scale sb."""

    def kernel(operands: Operands) -> torch.Tensor:
        # A sum of k products of 9 bits each is far from the 53 bits of float64.
        a, b = (c.to(torch.float64) - int(g.zero_point) for c, g in zip(operands.codes, operands.grids, strict=True))
        left, right = (float32(grid.scale) for grid in operands.grids)
        return saturate(requantize(torch.matmul(a, b), left, right, operands.output), operands)

    return kernel


def delegated(by_delegate: Requantize, otherwise: Requantize) -> Kernel:
    """The product where a delegate takes those whose right operand has the zero point 0."""
    taken, left = matmul(by_delegate), matmul(otherwise)
    return lambda operands: (left if int(operands.grids[1].zero_point) else taken)(operands)
