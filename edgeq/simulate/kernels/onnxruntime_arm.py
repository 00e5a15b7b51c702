"""ONNX Runtime's CPU kernels on ARM64 (MLAS with NEON), on int8 activations.

Convolutions, matrix products and tables are those of x86. Sums and global averages are computed in fixed point, halves
away from zero (``qladd.cpp``, ``qlgavgpool.cpp``); in products the zero point enters by a fused multiply-add.
"""

from dataclasses import replace

import numpy as np
import torch

from edgeq.simulate.kernels.family import Operands, float32, saturate
from edgeq.simulate.kernels.onnxruntime import ONNXRUNTIME_X86

#: Outside of these ratios of input to output scale the sum is computed in float32.
_SMALLEST_RATIO, _LARGEST_RATIO = 2.0**-14, 2.0**8
#: The larger multiplier of a sum has this many bits.
_BITS = 21


def _rounding_shift(value: torch.Tensor, shift: int) -> torch.Tensor:
    """value / 2^shift on int64, halves away from zero: a negative value is lowered by one before halves go up."""
    return (value - (value < 0).to(torch.int64) + (1 << (shift - 1))) >> shift


def _add(operands: Operands) -> torch.Tensor:
    """QLinearAdd: ((a - za) ma + (b - zb) mb) / 2^s + zc with m = rint(2^s sx / sc), s = 21 - exponent(max ratio)."""
    output = np.float32(operands.output.scale)
    scales = [np.float32(grid.scale) for grid in operands.grids]
    ratios = [scale / output for scale in scales]
    shift = _BITS - (int(np.frexp(max(ratios))[1]) - 1)
    multipliers = [int(np.rint(np.ldexp(np.float64(ratio), shift))) for ratio in ratios]
    a, b = (c.to(torch.int64) - int(g.zero_point) for c, g in zip(operands.codes, operands.grids, strict=True))
    in_range = all(_SMALLEST_RATIO <= ratio < _LARGEST_RATIO for ratio in ratios)
    if in_range and 13 <= shift <= 31 and max(multipliers) < 2 << _BITS:
        result = _rounding_shift(a * multipliers[0] + b * multipliers[1], shift) + int(operands.output.zero_point)
    else:
        total = a.to(torch.float32) * float(scales[0]) + b.to(torch.float32) * float(scales[1])
        result = torch.round(total / float(output) + int(operands.output.zero_point)).to(torch.int64)
    return saturate(result, operands)


def _mul(operands: Operands) -> torch.Tensor:
    """QLinearMul: rint(fma((a - za)(b - zb), sa sb / sc, zc))."""
    a, b = (c.to(torch.float64) - int(g.zero_point) for c, g in zip(operands.codes, operands.grids, strict=True))
    scale = float32(operands.grids[0].scale) * float32(operands.grids[1].scale) / float32(operands.output.scale)
    # The product of 16 and 24 bits is exact in float64, so that one rounding to float32 is left.
    total = (a * b * float(scale) + int(operands.output.zero_point)).to(torch.float32)
    return saturate(torch.round(total), operands)


def _global_average_pool(operands: Operands) -> torch.Tensor:
    """QLinearGlobalAveragePool: sum (x - zx) times the 24 bits of sx / (n sy), shifted to its place."""
    codes, grid, output = operands.codes[0], operands.grids[0], operands.output
    axes = tuple(range(2, codes.ndim))
    count = codes[0, 0].numel()
    scale = np.float32(grid.scale) / (np.float32(output.scale) * np.float32(count))
    mantissa, exponent = np.frexp(scale)
    total = (codes.to(torch.int64) - int(grid.zero_point)).sum(axes, keepdim=True)
    result = _rounding_shift(total * int(np.ldexp(np.float64(mantissa), 24)), 24 - int(exponent))
    return saturate(result + int(output.zero_point), operands)


def _average_pool(operands: Operands) -> torch.Tensor:
    """QLinearAveragePool: the mean of real numbers in float32, then rint(mean / scale + zero point), all int8."""
    grid, output = operands.grids[0], operands.output
    mean = operands.call((operands.codes[0] - int(grid.zero_point)).to(torch.float32) * float32(grid.scale))
    return saturate(torch.round(mean / float32(output.scale) + int(output.zero_point)), operands)


ONNXRUNTIME_ARM = replace(
    ONNXRUNTIME_X86,
    name="onnxruntime-arm",
    kernels={
        **ONNXRUNTIME_X86.kernels,
        "Add": _add,
        "Mul": _mul,
        "GlobalAveragePool": _global_average_pool,
        "AveragePool": _average_pool,
    },
)
