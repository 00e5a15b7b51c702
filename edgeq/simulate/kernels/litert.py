"""LiteRT's default kernels: the XNNPACK delegate, bit-exact between x86 and ARM."""

import numpy as np
import torch

from edgeq.plan.quantization import per_tensor
from edgeq.simulate.kernels.family import Family, Operands, float32, saturate
from edgeq.simulate.kernels.fixed_point import WIDE, double_rounding, requantizer
from edgeq.simulate.kernels.float32_requantization import requantize
from edgeq.simulate.kernels.gate import hard_sigmoid, hard_swish
from edgeq.simulate.kernels.products import delegated
from edgeq.simulate.kernels.tflite_arithmetic import multiplier, multiply


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


def _average_pool(operands: Operands) -> torch.Tensor:
    """TFLite's own kernel, which the delegate leaves alone: the mean of the codes, half away from zero."""
    zero = int(operands.grids[0].zero_point)
    mean = operands.call(operands.codes[0].to(torch.float64) - zero) + zero
    # Exact halves must not fall to the rounding of the division; other quotients are much farther from a half.
    return saturate(torch.sign(mean) * torch.floor(mean.abs() + (0.5 + 1e-9)), operands)


def _leaky_relu(operands: Operands) -> torch.Tensor:
    """XNNPACK's qs8-vlrelu: ((x - zx) m + 2^7) >> 8 with m = rint(256 sx / sy), times the slope below zero."""
    grid, output = operands.grids[0], operands.output
    centred = operands.codes[0] - int(grid.zero_point)
    slope = operands.call(torch.full((1,), -1.0)).neg().to(torch.float32)
    ratio = float32(grid.scale) / float32(output.scale)
    above, below = (float(torch.round(256 * part)) for part in (ratio, ratio * slope[0]))
    total = centred.to(torch.float64) * torch.where(centred >= 0, above, below)
    return saturate(torch.floor((total + 128) / 256) + int(output.zero_point), operands)


def _prelu(operands: Operands) -> torch.Tensor:
    """TFLite's own kernel: x sx / sy above zero, x slope sx ss / sy below, each by a fixed-point multiplier.

    The slope lies on a symmetric 8-bit grid that reaches its largest magnitude.
    """
    grid, output = operands.grids[0], operands.output
    centred = operands.codes[0].numpy().astype(np.int64) - int(grid.zero_point)
    slopes = operands.call(-torch.ones_like(operands.codes[0][:1])).neg().numpy()
    reach = float(np.abs(slopes).max(initial=0.0))
    slope_grid = per_tensor(reach / 127 if reach > 0 else 1.0, 0, 8, narrow=True)
    ratio = float(grid.scale) / float(output.scale)
    above = multiply(centred, *multiplier(ratio))
    below = multiply(centred * slope_grid.quantize(slopes), *multiplier(ratio * float(slope_grid.scale)))
    return saturate(torch.from_numpy(np.where(centred >= 0, above, below) + int(output.zero_point)), operands)


LITERT_DEFAULT = Family(
    name="xnnpack",
    requantize=requantize,
    # The delegate leaves 16-bit activations to TFLite's own kernels.
    wide=WIDE,
    kernels={
        "MatMul": delegated(requantize, requantizer(double_rounding)),
        "Add": _add,
        "Sub": _subtract,
        "Mul": _mul,
        "GlobalAveragePool": _global_average_pool,
        "AveragePool": _average_pool,
        "LeakyRelu": _leaky_relu,
        "HardSigmoid": hard_sigmoid(_add),
        "HardSwish": hard_swish(_add, _mul),
        "PRelu": _prelu,
    },
    exact=frozenset(
        {
            "Conv",
            "ConvTranspose",
            "Gemm",
            "MatMul",
            "Add",
            "Sub",
            "Mul",
            "GlobalAveragePool",
            "AveragePool",
            "Softmax",
            "Sigmoid",
            "Tanh",
            "HardSigmoid",
            "HardSwish",
            "LeakyRelu",
            "Elu",
            "Gelu",
            "PRelu",
        }
    ),
)
