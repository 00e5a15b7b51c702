"""Elementwise arithmetic with NumPy broadcasting."""

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

from edgeq.graph.ops.op import Op
from edgeq.graph.ops.types import computable


def add(a: Tensor, b: Tensor) -> Tensor:
    """The sum a + b."""
    return torch.add(computable(a), computable(b)).to(a.dtype)


def sub(a: Tensor, b: Tensor) -> Tensor:
    """The difference a - b."""
    return torch.sub(computable(a), computable(b)).to(a.dtype)


def mul(a: Tensor, b: Tensor) -> Tensor:
    """The product a b."""
    return torch.mul(computable(a), computable(b)).to(a.dtype)


def div(a: Tensor, b: Tensor) -> Tensor:
    """The quotient a / b; of integers, rounded towards zero."""
    if a.is_floating_point():
        return torch.div(a, b)
    return torch.div(computable(a), computable(b), rounding_mode="trunc").to(a.dtype)


def mod(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    """Remainder with the divisor's sign, or with the dividend's if ``fmod``."""
    left, right = computable(a), computable(b)
    return (torch.fmod(left, right) if fmod else torch.remainder(left, right)).to(a.dtype)


def power(a: Tensor, b: Tensor) -> Tensor:
    """The power a^b, in a's type."""
    return torch.pow(computable(a), computable(b)).to(a.dtype)


def neg(x: Tensor) -> Tensor:
    """The negative."""
    return torch.neg(x)


def absolute(x: Tensor) -> Tensor:
    """The absolute value."""
    return torch.abs(x)


def reciprocal(x: Tensor) -> Tensor:
    """The reciprocal 1 / x."""
    return torch.reciprocal(x)


def sqrt(x: Tensor) -> Tensor:
    """The square root."""
    return torch.sqrt(x)


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1."""
    return torch.sign(x)


def floor(x: Tensor) -> Tensor:
    """Round down."""
    return torch.floor(x)


def ceil(x: Tensor) -> Tensor:
    """Round up."""
    return torch.ceil(x)


def round_half_even(x: Tensor) -> Tensor:
    """Round to nearest, ties to even."""
    return torch.round(x)


def clip(
    x: Tensor,
    lowest: Tensor | float | None = None,
    highest: Tensor | float | None = None,
    *,
    min: float | None = None,
    max: float | None = None,
) -> Tensor:
    """Limit x to [lowest, highest]; attributes before opset 11, inputs since. The upper limit wins."""
    low, high = min if lowest is None else lowest, max if highest is None else highest
    if low is not None:
        x = torch.maximum(x, low) if isinstance(low, Tensor) else torch.clamp_min(x, low)
    if high is not None:
        x = torch.minimum(x, high) if isinstance(high, Tensor) else torch.clamp_max(x, high)
    return x


def maximum(*tensors: Tensor) -> Tensor:
    """Elementwise maximum of all inputs."""
    return _fold(torch.maximum, tensors)


def minimum(*tensors: Tensor) -> Tensor:
    """Elementwise minimum of all inputs."""
    return _fold(torch.minimum, tensors)


def total(*tensors: Tensor) -> Tensor:
    """Elementwise sum of all inputs."""
    return _fold(torch.add, tensors)


def mean(*tensors: Tensor) -> Tensor:
    """Elementwise mean of all inputs."""
    return total(*tensors) / len(tensors)


def _fold(function: Callable[[Tensor, Tensor], Tensor], tensors: Sequence[Tensor]) -> Tensor:
    return reduce(function, map(computable, tensors)).to(tensors[0].dtype)


def exp(x: Tensor) -> Tensor:
    """The exponential."""
    return torch.exp(x)


def log(x: Tensor) -> Tensor:
    """The natural logarithm."""
    return torch.log(x)


def erf(x: Tensor) -> Tensor:
    """The error function."""
    return torch.erf(x)


OPS = {
    ("", "Abs"): Op(absolute),
    ("", "Add"): Op(add),
    ("", "Ceil"): Op(ceil),
    ("", "Clip"): Op(clip, static=(1, 2)),
    ("", "Div"): Op(div),
    ("", "Erf"): Op(erf),
    ("", "Exp"): Op(exp),
    ("", "Floor"): Op(floor),
    ("", "Log"): Op(log),
    ("", "Max"): Op(maximum),
    ("", "Mean"): Op(mean),
    ("", "Min"): Op(minimum),
    ("", "Mod"): Op(mod),
    ("", "Mul"): Op(mul),
    ("", "Neg"): Op(neg),
    ("", "Pow"): Op(power),
    ("", "Reciprocal"): Op(reciprocal),
    ("", "Round"): Op(round_half_even),
    ("", "Sign"): Op(sign),
    ("", "Sqrt"): Op(sqrt),
    ("", "Sub"): Op(sub),
    ("", "Sum"): Op(total),
}
