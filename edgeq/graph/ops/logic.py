"""Comparisons, boolean logic, bits and selection."""

import torch
from torch import Tensor

from edgeq.graph.ops.op import Op
from edgeq.graph.ops.types import computable, torch_type


def equal(a: Tensor, b: Tensor) -> Tensor:
    """Whether a = b."""
    return torch.eq(computable(a), computable(b))


def greater(a: Tensor, b: Tensor) -> Tensor:
    """Whether a > b."""
    return torch.gt(computable(a), computable(b))


def greater_or_equal(a: Tensor, b: Tensor) -> Tensor:
    """Whether a >= b."""
    return torch.ge(computable(a), computable(b))


def less(a: Tensor, b: Tensor) -> Tensor:
    """Whether a < b."""
    return torch.lt(computable(a), computable(b))


def less_or_equal(a: Tensor, b: Tensor) -> Tensor:
    """Whether a <= b."""
    return torch.le(computable(a), computable(b))


def logical_and(a: Tensor, b: Tensor) -> Tensor:
    """Both."""
    return torch.logical_and(a, b)


def logical_or(a: Tensor, b: Tensor) -> Tensor:
    """One or both."""
    return torch.logical_or(a, b)


def logical_xor(a: Tensor, b: Tensor) -> Tensor:
    """Exactly one."""
    return torch.logical_xor(a, b)


def logical_not(x: Tensor) -> Tensor:
    """The opposite."""
    return torch.logical_not(x)


def bitwise_and(a: Tensor, b: Tensor) -> Tensor:
    """Bits set in both."""
    return torch.bitwise_and(computable(a), computable(b)).to(a.dtype)


def bitwise_or(a: Tensor, b: Tensor) -> Tensor:
    """Bits set in one or both."""
    return torch.bitwise_or(computable(a), computable(b)).to(a.dtype)


def bitwise_xor(a: Tensor, b: Tensor) -> Tensor:
    """Bits set in exactly one."""
    return torch.bitwise_xor(computable(a), computable(b)).to(a.dtype)


def bitwise_not(x: Tensor) -> Tensor:
    """All bits inverted."""
    return torch.bitwise_not(computable(x)).to(x.dtype)


def bit_shift(x: Tensor, count: Tensor, *, direction: str) -> Tensor:
    """x shifted by that many bits; zeros come in."""
    wide, steps = x.to(torch.int64), count.to(torch.int64)
    shifted = wide << steps if direction == "LEFT" else wide >> steps
    return shifted.to(x.dtype)


def bit_cast(x: Tensor, *, to: int) -> Tensor:
    """The same bits as another type of the same width."""
    return x.view(torch_type(to))


def is_nan(x: Tensor) -> Tensor:
    """Whether x is not a number."""
    return torch.isnan(x)


def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Whether x is infinite, of the wanted signs."""
    infinite = torch.zeros_like(x, dtype=torch.bool)
    if detect_positive:
        infinite = infinite | torch.isposinf(x)
    if detect_negative:
        infinite = infinite | torch.isneginf(x)
    return infinite


def where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The element of a where the condition holds, of b elsewhere."""
    return torch.where(condition, a, b)


OPS = {
    ("", "And"): Op(logical_and),
    ("", "BitCast"): Op(bit_cast),
    ("", "BitShift"): Op(bit_shift),
    ("", "BitwiseAnd"): Op(bitwise_and),
    ("", "BitwiseNot"): Op(bitwise_not),
    ("", "BitwiseOr"): Op(bitwise_or),
    ("", "BitwiseXor"): Op(bitwise_xor),
    ("", "Equal"): Op(equal),
    ("", "Greater"): Op(greater),
    ("", "GreaterOrEqual"): Op(greater_or_equal),
    ("", "IsInf"): Op(is_inf),
    ("", "IsNaN"): Op(is_nan),
    ("", "Less"): Op(less),
    ("", "LessOrEqual"): Op(less_or_equal),
    ("", "Not"): Op(logical_not),
    ("", "Or"): Op(logical_or),
    ("", "Where"): Op(where),
    ("", "Xor"): Op(logical_xor),
}
