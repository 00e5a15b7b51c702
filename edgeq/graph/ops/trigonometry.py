"""Trigonometric and hyperbolic functions."""

import torch
from torch import Tensor

from edgeq.graph.ops.op import Op


def sin(x: Tensor) -> Tensor:
    """Sine."""
    return torch.sin(x)


def cos(x: Tensor) -> Tensor:
    """Cosine."""
    return torch.cos(x)


def tan(x: Tensor) -> Tensor:
    """Tangent."""
    return torch.tan(x)


def asin(x: Tensor) -> Tensor:
    """Inverse sine."""
    return torch.asin(x)


def acos(x: Tensor) -> Tensor:
    """Inverse cosine."""
    return torch.acos(x)


def atan(x: Tensor) -> Tensor:
    """Inverse tangent."""
    return torch.atan(x)


def sinh(x: Tensor) -> Tensor:
    """Hyperbolic sine."""
    return torch.sinh(x)


def cosh(x: Tensor) -> Tensor:
    """Hyperbolic cosine."""
    return torch.cosh(x)


def asinh(x: Tensor) -> Tensor:
    """Inverse hyperbolic sine."""
    return torch.asinh(x)


def acosh(x: Tensor) -> Tensor:
    """Inverse hyperbolic cosine."""
    return torch.acosh(x)


def atanh(x: Tensor) -> Tensor:
    """Inverse hyperbolic tangent."""
    return torch.atanh(x)


OPS = {
    ("", "Acos"): Op(acos),
    ("", "Acosh"): Op(acosh),
    ("", "Asin"): Op(asin),
    ("", "Asinh"): Op(asinh),
    ("", "Atan"): Op(atan),
    ("", "Atanh"): Op(atanh),
    ("", "Cos"): Op(cos),
    ("", "Cosh"): Op(cosh),
    ("", "Sin"): Op(sin),
    ("", "Sinh"): Op(sinh),
    ("", "Tan"): Op(tan),
}
