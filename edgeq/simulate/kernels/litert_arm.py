"""LiteRT's default kernels on ARM: XNNPACK as on x86, but that its product of two tensors rounds in fixed point."""

from dataclasses import replace

import numpy as np
import torch

from edgeq.simulate.kernels.family import Operands, saturate
from edgeq.simulate.kernels.gate import hard_swish
from edgeq.simulate.kernels.litert import LITERT_DEFAULT


def _mul(operands: Operands) -> torch.Tensor:
    """XNNPACK's qs8-vmul on NEON ("rndnu"): the float32 multiplier's 24 bits as an integer, halves up.

    m = sa sb / so = M 2^-s with M in [2^30, 2^31);  ((2 p M >> 32) + 2^(s-32)) >> (s - 31)  for p = (a - za)(b - zb)
    """
    pairs = zip(operands.codes, operands.grids, strict=True)
    a, b = (codes.to(torch.int64) - int(grid.zero_point) for codes, grid in pairs)
    scales = [np.float32(grid.scale) for grid in operands.grids]
    mantissa, exponent = np.frexp(np.float32(scales[0] * scales[1] / np.float32(operands.output.scale)))
    multiplier = int(np.ldexp(np.float64(mantissa), 31))
    # What the last shift cannot take, because the multiplier is large, is shifted in beforehand.
    right = max(-int(exponent), 1)
    product = (a * b) << max(right + int(exponent), 0)
    high = (product * multiplier) >> 31
    result = (high + (1 << (right - 1))) >> right
    return saturate(result + int(operands.output.zero_point), operands)


LITERT_ARM = replace(
    LITERT_DEFAULT,
    name="xnnpack-arm",
    kernels={**LITERT_DEFAULT.kernels, "Mul": _mul, "HardSwish": hard_swish(LITERT_DEFAULT.kernels["Add"], _mul)},
)
