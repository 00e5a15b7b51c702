"""TFLite's fixed-point arithmetic: a real multiplier as a 31-bit integer and a shift, and its roundings.

The formulas are those of TensorFlow Lite (``kernels/internal/common.h``) and gemmlowp (``fixedpoint.h``) on int64.
"""

import math

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


def multiplier(real: float) -> tuple[int, int]:
    """QuantizeMultiplier: (q, shift) with real ~ q / 2^31 * 2^shift, q in [2^30, 2^31)."""
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    q = math.floor(fraction * 2**31 + 0.5)
    return (q // 2, shift + 1) if q == 2**31 else (q, shift)


def doubling_high_multiply(a: Integers, b: int | Integers, bits: int, *, rounding: bool = True) -> Integers:
    """The high half of 2 a b for operands of so many bits, rounded to nearest (half away from zero) or truncated."""
    product = a * b
    half = 1 << (bits - 2)
    nudged = product + np.where(product >= 0, half, 1 - half) if rounding else product
    divisor = 1 << (bits - 1)
    high: Integers = np.sign(nudged) * (np.abs(nudged) // divisor)
    return np.minimum(high, divisor - 1)


def rounding_shift(a: Integers, exponent: int) -> Integers:
    """RoundingDivideByPOT: a / 2^exponent, half away from zero."""
    mask = (1 << exponent) - 1
    remainder = a & mask
    threshold = (mask >> 1) + (a < 0)
    result: Integers = (a >> exponent) + (remainder > threshold)
    return result


def multiply(a: Integers, q: int, shift: int) -> Integers:
    """MultiplyByQuantizedMultiplier with its two roundings: a * q / 2^31 * 2^shift."""
    high = doubling_high_multiply(a << max(shift, 0), q, 32)
    return rounding_shift(high, max(-shift, 0))
