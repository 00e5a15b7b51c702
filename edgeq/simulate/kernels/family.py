"""A kernel family: how one runtime's kernels round and saturate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from edgeq.plan.plan import Plan, Unit
from edgeq.plan.quantization import Quantization
from edgeq.plan.stored import in_bytes

#: (accumulator: int32 values as float32 or float64, input scale, weight scales to broadcast, output grid) -> codes
Requantize = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Quantization], torch.Tensor]


@dataclass(frozen=True)
class Operands:
    """What an integer kernel of a unit without a weight reads and makes.

    Attributes:
        codes: the inputs' codes, float32.
        grids: the inputs' grids.
        output: the output's grid.
        clamp: (lowest, highest) code of the fused activation.
        unit: the unit.
        call: the unit's op on another tensor in place of its first input, in that tensor's precision.
        attributes: of the unit's node.
    """

    codes: tuple[torch.Tensor, ...]
    grids: tuple[Quantization, ...]
    output: Quantization
    clamp: tuple[int, int]
    unit: Unit
    call: Callable[[torch.Tensor], torch.Tensor]
    attributes: Mapping[str, Any] = field(default_factory=dict)


Kernel = Callable[[Operands], torch.Tensor]


@dataclass(frozen=True)
class Family:
    """One runtime's integer arithmetic.

    Attributes:
        name: as profiles name it.
        requantize: from the int32 accumulator of a convolution or matrix product to the output's codes, unclamped.
        kernels: op -> kernel, for ops that compute on codes otherwise than by real arithmetic. Ops that only move codes
            need none; any other op is computed in real numbers between dequantize and quantize, as the runtime does.
        exact: ops whose kernel was matched bit for bit; others are within one step.
        special: Conv, DepthwiseConv, GroupedConv, Gemm or MatMul -> its requantization, where it is not ``requantize``.
        wide: the kernels for 16-bit activations; None where the runtime computes on real numbers then.
        stored: the plan with the grids as the runtime's files hold them: where a rounding depends on what the codes are
            and not on their distance from the zero point, it is these codes'.
    """

    name: str
    requantize: Requantize
    kernels: Mapping[str, Kernel]
    exact: frozenset[str]
    special: Mapping[str, Requantize] = field(default_factory=dict)
    wide: "Family | None" = None
    stored: Callable[[Plan], Plan] = in_bytes


def saturate(codes: torch.Tensor, operands: Operands) -> torch.Tensor:
    """Clamp to the fused activation's codes."""
    return torch.clamp(codes, operands.clamp[0], operands.clamp[1]).to(torch.float32)


def float32(value: object) -> torch.Tensor:
    """A float32 scalar tensor of a scale."""
    return torch.as_tensor(value, dtype=torch.float32)
