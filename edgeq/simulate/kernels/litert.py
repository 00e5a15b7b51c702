"""LiteRT's default kernels: the XNNPACK delegate, bit-exact between x86 and ARM."""

import numpy as np
import torch

from edgeq.simulate.kernels.family import Family, Operands, float32, saturate
from edgeq.simulate.kernels.float32_requantization import requantize


def _add(operands: Operands, sign: int = 1) -> torch.Tensor:
    """XNNPACK's qs8-vadd: both inputs to a common fixed-point scale, one rounding shift.

    sh = 20 - exponent(max ratio);  ((a - za) ma + (b - zb) mb + 2^(sh-1)) >> sh
    """
    a, b = (c - int(g.zero_point) for c, g in zip(operands.codes, operands.grids, strict=True))
    ratios = [np.float32(np.float32(grid.scale) / np.float32(operands.output.scale)) for grid in operands.grids]
    shift = 20 - (int(np.frexp(max(ratios))[1]) - 1)
    multipliers = [int(np.rint(np.ldexp(np.float64(ratio), shift))) for ratio in ratios]
    total = a.to(torch.float64) * multipliers[0] + b.to(torch.float64) * (sign * multipliers[1])
    result = torch.floor((total + 2.0 ** (shift - 1)) / 2.0**shift) + int(operands.output.zero_point)
    return saturate(result, operands)


def _subtract(operands: Operands) -> torch.Tensor:
    return _add(operands, sign=-1)


def _mul(operands: Operands) -> torch.Tensor:
    """XNNPACK's qs8-vmul: rint(float32((a - za) (b - zb)) * (sa sb / so)) + zo."""
    a, b = (c - int(g.zero_point) for c, g in zip(operands.codes, operands.grids, strict=True))
    scale = float32(operands.grids[0].scale) * float32(operands.grids[1].scale) / float32(operands.output.scale)
    result = torch.round((a * b).to(torch.float32) * scale).to(torch.float64) + int(operands.output.zero_point)
    return saturate(result, operands)


def _global_average_pool(operands: Operands) -> torch.Tensor:
    """XNNPACK's mean: the int32 sum of codes less n times the zero point, scaled by sx / sy / n."""
    codes, grid, output = operands.codes[0], operands.grids[0], operands.output
    axes = tuple(range(2, codes.ndim))
    count = codes[0, 0].numel()
    total = (codes - int(grid.zero_point)).sum(axes, keepdim=True, dtype=torch.float64)
    scale = float32(grid.scale) / float32(output.scale) / float32(count)
    result = torch.round(total.to(torch.float32) * scale).to(torch.float64) + int(output.zero_point)
    return saturate(result, operands)


LITERT_DEFAULT = Family(
    name="xnnpack",
    requantize=requantize,
    kernels={"Add": _add, "Sub": _subtract, "Mul": _mul, "GlobalAveragePool": _global_average_pool},
    exact=frozenset({"Conv", "Gemm", "MatMul", "Add"}),
)
