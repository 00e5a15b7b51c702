"""ONNX Runtime's CPU kernels on x86 (MLAS), on uint8 activations: the same grid as the plan's, shifted by 128."""

import torch

from edgeq.plan.quantization import Quantization
from edgeq.simulate.kernels.family import Family, Operands, float32, saturate
from edgeq.simulate.kernels.float32_requantization import requantize
from edgeq.simulate.kernels.products import matmul

#: From the plan's codes to uint8, of however few bits they are.
_SHIFT = 128


def _unsigned(codes: torch.Tensor, grid: Quantization) -> tuple[torch.Tensor, torch.Tensor]:
    """(uint8 codes, uint8 zero point) as float32."""
    return (codes + _SHIFT).to(torch.float32), float32(int(grid.zero_point) + _SHIFT)


def _add(operands: Operands) -> torch.Tensor:
    """QLinearAdd: fma(a, ra, fma(b, rb, zc - fma(ra, za, rb zb))) with ra = sa / sc, rb = sb / sc, all float32."""
    (a, za), (b, zb) = (_unsigned(c, g) for c, g in zip(operands.codes, operands.grids, strict=True))
    output = float32(operands.output.scale)
    ratio_a, ratio_b = (float32(grid.scale) / output for grid in operands.grids)
    fixed = float32(int(operands.output.zero_point) + _SHIFT) - _fma(ratio_a, za, ratio_b * zb)
    inner = _fma(b, ratio_b, fixed)
    result = torch.round(_fma(a, ratio_a, inner)).to(torch.float64) - _SHIFT
    return saturate(result, operands)


def _fma(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    # The product of 8 and 24 bits is exact in float64, so one rounding to float32 is left, as in hardware.
    return (a.to(torch.float64) * b.to(torch.float64) + c.to(torch.float64)).to(torch.float32)


def _mul(operands: Operands) -> torch.Tensor:
    """QLinearMul: rint((a - za) (b - zb) * (sa sb / sc) + zc): the zero point decides where a tie goes."""
    a, b = (c - int(g.zero_point) for c, g in zip(operands.codes, operands.grids, strict=True))
    scale = float32(operands.grids[0].scale) * float32(operands.grids[1].scale) / float32(operands.output.scale)
    result = torch.round((a * b).to(torch.float32) * scale + (int(operands.output.zero_point) + _SHIFT))
    return saturate(result.to(torch.float64) - _SHIFT, operands)


def _global_average_pool(operands: Operands) -> torch.Tensor:
    """QLinearGlobalAveragePool: the int32 sum of codes less n times the zero point, scaled by sx / (n sy)."""
    codes, grid, output = operands.codes[0], operands.grids[0], operands.output
    axes = tuple(range(2, codes.ndim))
    count = codes[0, 0].numel()
    total = (codes - int(grid.zero_point)).sum(axes, keepdim=True, dtype=torch.float64)
    scale = float32(grid.scale) / (float32(output.scale) * float32(count))
    result = torch.round(total.to(torch.float32) * scale).to(torch.float64) + int(output.zero_point)
    return saturate(result, operands)


def _average_pool(operands: Operands) -> torch.Tensor:
    """QLinearAveragePool: the mean of real numbers in float32, then rint(mean / scale + zero point)."""
    grid, output = operands.grids[0], operands.output
    codes, zero = _unsigned(operands.codes[0], grid)
    mean = operands.call((codes - zero) * float32(grid.scale))
    result = torch.round(mean / float32(output.scale) + (int(output.zero_point) + _SHIFT))
    return saturate(result.to(torch.float64) - _SHIFT, operands)


ONNXRUNTIME_X86 = Family(
    name="onnxruntime",
    requantize=requantize,
    kernels={
        "MatMul": matmul(requantize),
        "Add": _add,
        "Mul": _mul,
        "GlobalAveragePool": _global_average_pool,
        "AveragePool": _average_pool,
    },
    stored=lambda plan: plan,
    exact=frozenset(
        {
            "Conv",
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
