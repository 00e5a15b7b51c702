"""The gate clip(alpha x + beta, 0, 1) as the TFLite files hold it: MUL, whose product keeps x's codes, and ADD.

HardSwish is x times that gate (1/6, 1/2) on a grid of its own: MUL, ADD and MUL. TFLite's own int8 HARD_SWISH is
delegated nowhere and took ten times as long as the three ops, which are.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from edgeq.plan.quantization import Quantization, per_tensor
from edgeq.simulate.kernels.family import Kernel, Operands

SLOPE, SHIFT = 1 / 6, 0.5


def scaled(grid: Quantization, factor: float) -> Quantization:
    """The grid of a product with a number: the codes stay."""
    return replace(grid, scale=np.asarray(np.float32(grid.scale) * np.float32(factor)))


def number(value: float, bits: int) -> Quantization:
    """The symmetric grid of a single number, which lies on its last code."""
    return per_tensor(abs(value) / (2 ** (bits - 1) - 1) if value else 1.0, 0, bits, narrow=True)


def gate_grid(bits: int) -> Quantization:
    """[0, 1] to its edges."""
    return per_tensor(1 / 255, -128) if bits <= 8 else per_tensor(1 / (2 ** (bits - 1) - 1), 0, bits)


def hard_sigmoid(add: Kernel) -> Kernel:
    """The kernel of HardSigmoid, by the same runtime's ADD."""

    def kernel(operands: Operands) -> torch.Tensor:
        (codes,), (grid,), output = operands.codes, operands.grids, operands.output
        slope, shift = (
            float(operands.attributes.get(key, default)) for key, default in (("alpha", 0.2), ("beta", 0.5))
        )
        one = number(shift, max(8, grid.bits))
        ends = output.quantize(np.array([0.0, 1.0], np.float32)).tolist()
        clamp = max(ends[0], operands.clamp[0]), min(ends[1], operands.clamp[1])
        beta = torch.full((1,), float(one.quantize(np.array([shift], np.float32))[0]))
        return add(replace(operands, codes=(codes, beta), grids=(scaled(grid, slope), one), clamp=clamp))

    return kernel


def hard_swish(add: Kernel, mul: Kernel) -> Callable[[Operands], torch.Tensor]:
    """The kernel of HardSwish, by the same runtime's ADD and MUL."""

    def kernel(operands: Operands) -> torch.Tensor:
        (codes,), (grid,) = operands.codes, operands.grids
        half, gate = number(SHIFT, max(8, grid.bits)), gate_grid(grid.bits)
        shift = torch.full((1,), float(half.qmax))
        lowest = int(gate.zero_point)
        opened = add(
            replace(
                operands,
                codes=(codes, shift),
                grids=(scaled(grid, SLOPE), half),
                output=gate,
                clamp=(lowest, gate.qmax),
            )
        )
        return mul(replace(operands, codes=(codes, opened), grids=(grid, gate)))

    return kernel
