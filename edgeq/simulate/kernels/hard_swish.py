"""TFLite's int8 HARD_SWISH, x relu6(x + 3) / 6 in 16-bit fixed point (``reference/hard_swish.h``).

1. x - zero point, on a scale 128 times finer (16 bits);
2. the same on the output's scale, but for a power of two;
3. "reluish": the input on the scale 3 / 2^15, saturated to [-3, 3], then moved to [0, 1];
4. the product of 2 and 3, shifted to the output's scale.
"""

import numpy as np
import torch

from edgeq.simulate.kernels.family import Operands, saturate
from edgeq.simulate.kernels.tflite_arithmetic import (
    Integers,
    doubling_high_multiply,
    multiplier,
    rounding_shift,
    saturating_left_shift_16,
)

_HIGH_RESOLUTION = 128
_RELUISH_SCALE = 3.0 / 32768.0


def hard_swish(operands: Operands) -> torch.Tensor:
    """The output's codes; exact."""
    grid, output = operands.grids[0], operands.output
    codes = np.arange(grid.qmin, grid.qmax + 1, dtype=np.int64)
    table = torch.from_numpy(_table(codes - int(grid.zero_point), float(grid.scale), float(output.scale)))
    found = table[(operands.codes[0] - grid.qmin).to(torch.int64)] + int(output.zero_point)
    return saturate(found, operands)


def _table(centred: Integers, input_scale: float, output_scale: float) -> Integers:
    fine = np.float32(np.float32(1.0 / _HIGH_RESOLUTION) * np.float32(input_scale))
    to_output, output_exponent = _multiplier_16(float(np.float32(fine / np.float32(output_scale))))
    to_reluish, reluish_exponent = _multiplier_16(float(np.float32(fine / np.float32(_RELUISH_SCALE))))
    value = centred * _HIGH_RESOLUTION
    on_output_scale = doubling_high_multiply(value, to_output, 16)
    reluish = value
    if reluish_exponent > 0:
        reluish = saturating_left_shift_16(reluish, reluish_exponent - 1)
    reluish = doubling_high_multiply(reluish, to_reluish, 16)
    if reluish_exponent > 0:
        reluish = saturating_left_shift_16(reluish, 1)
    elif reluish_exponent < 0:
        reluish = rounding_shift(reluish, -reluish_exponent)
    gate = (reluish + (1 << 15)) >> 1
    product = doubling_high_multiply(gate, on_output_scale, 16, rounding=False)
    return rounding_shift(product, -output_exponent)


def _multiplier_16(real: float) -> tuple[int, int]:
    """QuantizeMultiplier, its multiplier rounded to 16 bits."""
    q, shift = multiplier(real)
    return min((q + (1 << 15)) >> 16, 2**15 - 1), shift
