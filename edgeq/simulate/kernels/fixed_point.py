"""TFLite's kernels without XNNPACK: requantization by a 32-bit fixed-point multiplier and a shift.

The real multiplier m = input scale * weight scale / output scale (in float64) becomes q * 2^(e - 31) with q a 31-bit
integer (TFLite's QuantizeMultiplier). Three roundings of acc * q * 2^(e - 31) are in use:

    double   saturating rounding doubling high multiply, then a rounding shift, halves away from zero (gemmlowp)
    ruy      ((acc q + 2^30) >> 31), then + half and an arithmetic shift, halves up (ruy on x86)
    single   (acc q + 2^(s-1)) >> s, one rounding, halves up
    short    the same with the upper 16 bits of q: int64 sums of 16-bit activations

tflite-runtime's and LiteRT's plain kernels and TFLite Micro take "double", but LiteRT's plain FULLY_CONNECTED "single".
The optimized kernels without a delegate hand convolutions and matrix products to ruy. LiteRT's own vector code, for
depthwise convolutions and means, rounds like ruy too, but works on blocks of channels: the channels left over at the
end take "double", as all do in tflite-runtime 2.14, whose wheel has no such code. Convolutions in groups that are not
depthwise have a plain kernel only.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from edgeq.plan.quantization import Quantization
from edgeq.simulate.kernels.family import Family, Kernel, Operands, Requantize, saturate
from edgeq.simulate.kernels.gate import hard_sigmoid, hard_swish
from edgeq.simulate.kernels.products import matmul

#: (integers, multiplier q, exponent e), all int64, broadcast -> integers
Rounding = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

#: TFLite's ADD and SUB bring both operands to a scale with this many more bits, those on int16 with so many.
_LEFT_SHIFT, _WIDE_LEFT_SHIFT = 20, 15


def fixed_point(real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(q, e) with real = q * 2^(e - 31), q in [2^30, 2^31): TFLite's QuantizeMultiplier on float64."""
    mantissa, exponent = torch.frexp(real)
    q = torch.floor(mantissa * 2.0**31 + 0.5).to(torch.int64)
    full = q == 2**31
    return torch.where(full, q // 2, q), exponent.to(torch.int64) + full


def double_rounding(value: torch.Tensor, q: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    """gemmlowp's SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT."""
    left, right = e.clamp(min=0), (-e).clamp(min=0)
    product = (value << left) * q
    # C++ divides towards zero, so that the nudge follows the sign.
    nudged = product + torch.where(product >= 0, 2**30, 1 - 2**30)
    high = torch.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))
    mask = (torch.ones_like(right) << right) - 1
    remainder = high & mask
    return (high >> right) + (remainder > (mask >> 1) + (high < 0).to(torch.int64)).to(torch.int64)


def ruy_rounding(value: torch.Tensor, q: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    """Ruy's fixed-point multiplication on x86."""
    left, right = e.clamp(min=0), (-e).clamp(min=0)
    high = ((value << left) * q + 2**30) >> 31
    return (high + ((torch.ones_like(right) << right) >> 1)) >> right


def single_rounding(value: torch.Tensor, q: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    """TFLite's MultiplyByQuantizedMultiplier with one rounding."""
    shift = 31 - e
    return (value * q + (torch.ones_like(shift) << (shift - 1))) >> shift


def shortened(value: torch.Tensor, q: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    """TFLite's MultiplyByQuantizedMultiplier on int64: the multiplier's upper 16 bits, one rounding."""
    short = torch.where(q < 0x7FFF0000, (q + (1 << 15)) >> 16, torch.full_like(q, 0x7FFF))
    shift = 15 - e
    return (value * short + (torch.ones_like(shift) << (shift - 1))) >> shift


def requantizer(rounding: Rounding) -> Requantize:
    """A family's requantization of convolutions and matrix products with that rounding."""

    def requantize(
        accumulator: torch.Tensor, input_scale: torch.Tensor, weight_scale: torch.Tensor, output: Quantization
    ) -> torch.Tensor:
        real = input_scale.to(torch.float64) * weight_scale.to(torch.float64) / float(output.scale)
        result = rounding(accumulator.to(torch.int64), *fixed_point(real)) + int(output.zero_point)
        # Far outside of int8 a float32 may round; the clamp that follows takes no notice.
        return result.to(torch.float32)

    return requantize


def _blockwise(first: torch.Tensor, rest: torch.Tensor, channels: torch.Tensor, count: int, block: int) -> torch.Tensor:
    """``first`` for the channels in whole blocks, ``rest`` for those left over."""
    return torch.where(channels < count // block * block, first, rest)


def _vectorized_depthwise(
    accumulator: torch.Tensor, input_scale: torch.Tensor, weight_scale: torch.Tensor, output: Quantization
) -> torch.Tensor:
    operands = (accumulator, input_scale, weight_scale, output)
    shape = weight_scale.shape if weight_scale.numel() > 1 else (-1, *[1] * (accumulator.ndim - 2))
    count = weight_scale.numel() if weight_scale.numel() > 1 else accumulator.shape[1]
    return _blockwise(_ruy(*operands), _double(*operands), torch.arange(count).reshape(shape), count, 8)


def _scaled(value: torch.Tensor, real: float, rounding: Rounding = double_rounding) -> torch.Tensor:
    return rounding(value, *fixed_point(torch.tensor(real, dtype=torch.float64)))


def _centred(operands: Operands) -> list[torch.Tensor]:
    pairs = zip(operands.codes, operands.grids, strict=True)
    return [codes.to(torch.int64) - int(grid.zero_point) for codes, grid in pairs]


def _sum(operands: Operands, sign: int) -> torch.Tensor:
    """TFLite's ADD and SUB: both operands at twice the larger scale with more bits, three multiplications."""
    more = _WIDE_LEFT_SHIFT if operands.output.bits > 8 else _LEFT_SHIFT
    scales = [float(grid.scale) for grid in operands.grids]
    twice = 2 * max(scales)
    left, right = (
        _scaled(value << more, scale / twice) for value, scale in zip(_centred(operands), scales, strict=True)
    )
    total = _scaled(left + sign * right, twice / (2**more * float(operands.output.scale)))
    return saturate(total + int(operands.output.zero_point), operands)


def _add(operands: Operands) -> torch.Tensor:
    return _sum(operands, 1)


def _subtract(operands: Operands) -> torch.Tensor:
    return _sum(operands, -1)


def _mul(operands: Operands, precision: type[np.floating] = np.float32) -> torch.Tensor:
    """TFLite's MUL: (a - za)(b - zb), requantized once; the multiplier is made in float32, in Micro in float64."""
    a, b = _centred(operands)
    left, right, output = (precision(grid.scale) for grid in (*operands.grids, operands.output))
    return saturate(_scaled(a * b, float(left * right / output)) + int(operands.output.zero_point), operands)


_micro_mul = partial(_mul, precision=np.float64)


def _average_pool(operands: Operands) -> torch.Tensor:
    """TFLite's AVERAGE_POOL_2D: the mean of the codes, half away from zero."""
    zero = int(operands.grids[0].zero_point)
    mean = operands.call(operands.codes[0].to(torch.float64) - zero) + zero
    return saturate(torch.sign(mean) * torch.floor(mean.abs() + 0.5), operands)


def _mean(operands: Operands) -> torch.Tensor:
    """TFLite's MEAN: the number of elements goes into the multiplier.

    With n elements and q, e of input scale / output scale: k = min(floor(log2 n), 32, 31 + e),
    q' = (q << k) / n, e' = e - k, so that q' keeps its bits.
    """
    codes, grid, output = operands.codes[0], operands.grids[0], operands.output
    axes = tuple(range(2, codes.ndim))
    count = int(np.prod([codes.shape[axis] for axis in axes]))
    total = (codes.to(torch.int64) - int(grid.zero_point)).sum(axes, keepdim=True)
    q, e = fixed_point(torch.tensor(float(grid.scale) / float(output.scale), dtype=torch.float64))
    shift = min(count.bit_length() - 1, 32, 31 + int(e))
    q, e = (q << shift) // count, e - shift
    return saturate(double_rounding(total, q, e) + int(output.zero_point), operands)


def _optimized_mean(operands: Operands, block: int = 0) -> torch.Tensor:
    """The optimized MEAN over H and W: the sum of the raw codes, 1/n in the multiplier, the zero points in one bias.

    The bias is rounded before it is added, and all of it computed in float32. Blocks of so many channels (0 for none)
    are rounded like ruy.
    """
    codes, grid, output = operands.codes[0], operands.grids[0], operands.output
    axes = tuple(range(2, codes.ndim))
    count = np.float32(np.prod([codes.shape[axis] for axis in axes]))
    offset = np.float32(grid.zero_point) * np.float32(grid.scale) / np.float32(output.scale)
    bias = int(output.zero_point) - int(offset + np.float32(0.5 if offset > 0 else -0.5))
    total = codes.to(torch.int64).sum(axes, keepdim=True)
    real = float(np.float32(grid.scale) / (count * np.float32(output.scale)))
    scaled = _scaled(total, real)
    if block:
        channels = torch.arange(codes.shape[1]).reshape(-1, *[1] * (codes.ndim - 2))
        scaled = _blockwise(_scaled(total, real, ruy_rounding), scaled, channels, codes.shape[1], block)
    return saturate(scaled + bias, operands)


_double, _ruy, _single = (requantizer(rounding) for rounding in (double_rounding, ruy_rounding, single_rounding))
#: Fully connected layers keep all of the multiplier in LiteRT.
_WIDE_OLD = Family(
    name="16x8",
    requantize=requantizer(shortened),
    kernels={
        "MatMul": matmul(requantizer(shortened)),
        "Add": _add,
        "Sub": _subtract,
        "Mul": _mul,
        "AveragePool": _average_pool,
        "GlobalAveragePool": _mean,
        "HardSwish": hard_swish(_add, _mul),
    },
    exact=frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul"}),
)
WIDE = replace(_WIDE_OLD, special={"Gemm": _single, "MatMul": _single})
_KERNELS = {
    "MatMul": matmul(_double),
    "Add": _add,
    "Sub": _subtract,
    "Mul": _mul,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _mean,
    "HardSwish": hard_swish(_add, _mul),
}
_EXACT = frozenset({"Conv", "Gemm", "MatMul", "Add", "Sub", "Mul", "GlobalAveragePool"})

_MICRO_PRODUCTS: dict[str, Kernel] = {"Mul": _micro_mul, "HardSwish": hard_swish(_add, _micro_mul)}
GEMMLOWP = Family(name="gemmlowp", requantize=_double, kernels=_KERNELS, exact=_EXACT, wide=_WIDE_OLD)
TFLITE_MICRO = replace(
    GEMMLOWP,
    name="tflite-micro",
    kernels={**_KERNELS, **_MICRO_PRODUCTS},
    wide=replace(_WIDE_OLD, kernels={**_WIDE_OLD.kernels, **_MICRO_PRODUCTS}),
)
LITERT_REFERENCE = Family(
    name="litert-reference",
    requantize=_double,
    kernels=_KERNELS | {"HardSigmoid": hard_sigmoid(_add)},
    exact=_EXACT,
    special={"Gemm": _single, "MatMul": _single},
    wide=WIDE,
)
#: LiteRT without a delegate, on x86.
RUY = Family(
    name="ruy",
    requantize=_ruy,
    kernels={**_KERNELS, "GlobalAveragePool": partial(_optimized_mean, block=16)},
    exact=_EXACT,
    special={"DepthwiseConv": _vectorized_depthwise, "GroupedConv": _double},
    wide=WIDE,
)
#: tflite-runtime 2.14 on x86: ruy for what is handed to that library, gemmlowp's rounding for the rest.
RUY_GEMMLOWP = Family(
    name="ruy-gemmlowp",
    requantize=_ruy,
    kernels={**_KERNELS, "MatMul": matmul(_ruy), "GlobalAveragePool": _optimized_mean},
    exact=_EXACT,
    special={"DepthwiseConv": _double, "GroupedConv": _double},
    wide=_WIDE_OLD,
)
