"""Activation functions."""

import torch
from torch import Tensor
from torch.nn import functional

from edgeq.graph.ops.op import Op


def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return torch.relu(x)


def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """The value x where positive, alpha x elsewhere."""
    return functional.leaky_relu(x, alpha)


def prelu(x: Tensor, slope: Tensor, *, opset: int = 16) -> Tensor:
    """The value x where not negative, slope x elsewhere; the slope broadcasts to x (before opset 7, one a channel)."""
    if opset < 7 and slope.numel() > 1:
        slope = slope.reshape(-1, *(1,) * (x.dim() - 2))
    return torch.where(x < 0, x * slope, x)


def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """The value x where greater than alpha, 0 elsewhere."""
    return torch.where(x > alpha, x, torch.zeros_like(x))


def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """The value x where positive, alpha (e^x - 1) elsewhere."""
    return functional.elu(x, alpha)


def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """The value x where positive, alpha (e^(x / alpha) - 1) elsewhere."""
    return functional.celu(x, alpha)


def selu(x: Tensor, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Tensor:
    """gamma x where positive, gamma alpha (e^x - 1) elsewhere."""
    return gamma * functional.elu(x, alpha)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x)."""
    return torch.sigmoid(x)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return torch.tanh(x)


def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """Alpha x + beta, limited to [0, 1]."""
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


def hard_swish(x: Tensor) -> Tensor:
    """The product of x and its hard sigmoid of slope 1/6."""
    return functional.hardswish(x)


def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """The product of x and sigmoid(alpha x)."""
    return functional.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


def swiglu(gate: Tensor, x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """The product of swish(gate) and x."""
    return swish(gate, alpha=alpha) * x


def mish(x: Tensor) -> Tensor:
    """The product of x and tanh(softplus(x))."""
    return functional.mish(x)


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x)."""
    return functional.softplus(x, threshold=88.0)


def softsign(x: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return functional.softsign(x)


def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """The product of x and the normal distribution function, exactly or by its tanh approximation."""
    return functional.gelu(x, approximate=approximate)


def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """Move x towards 0 by bias where |x| > lambd; 0 elsewhere."""
    zero = torch.zeros_like(x)
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, zero)).to(x.dtype)


OPS = {
    ("", "Celu"): Op(celu),
    ("", "Elu"): Op(elu),
    ("", "Gelu"): Op(gelu),
    ("", "HardSigmoid"): Op(hard_sigmoid),
    ("", "HardSwish"): Op(hard_swish),
    ("", "LeakyRelu"): Op(leaky_relu),
    ("", "Mish"): Op(mish),
    ("", "PRelu"): Op(prelu),
    ("", "Relu"): Op(relu),
    ("", "Selu"): Op(selu),
    ("", "Shrink"): Op(shrink),
    ("", "Sigmoid"): Op(sigmoid),
    ("", "Softplus"): Op(softplus),
    ("", "Softsign"): Op(softsign),
    ("", "SwiGLU"): Op(swiglu),
    ("", "Swish"): Op(swish),
    ("", "Tanh"): Op(tanh),
    ("", "ThresholdedRelu"): Op(thresholded_relu),
}
