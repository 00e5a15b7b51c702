"""Normalizations."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from edgeq.graph.ops.op import Op


def batch_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
    spatial: int = 1,
    is_test: int = 1,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """(x - mean) / sqrt(variance + epsilon) scale + bias for each channel of x (N, C, ...)."""
    if not training_mode:
        return _affine(x, scale, bias, mean, variance, epsilon)
    axes = [d for d in range(x.dim()) if d != 1]
    batch_mean, batch_variance = x.mean(axes), x.var(axes, unbiased=False)
    y = _affine(x, scale, bias, batch_mean, batch_variance, epsilon)
    running_mean = mean * momentum + batch_mean * (1 - momentum)
    running_variance = variance * momentum + batch_variance * (1 - momentum)
    return y if outputs == 1 else (y, running_mean, running_variance)


def _affine(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, epsilon: float) -> Tensor:
    shape = (1, -1, *(1,) * (x.dim() - 2)) if x.dim() > 1 else (-1,)
    factor = (scale / torch.sqrt(variance + epsilon)).reshape(shape)
    return ((x - mean.reshape(shape)) * factor + bias.reshape(shape)).to(x.dtype)


def instance_normalization(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """Each channel of each sample of x (N, C, spatial) to mean 0 and variance 1, then scale and bias."""
    axes = tuple(range(2, x.dim()))
    shape = (1, -1, *(1,) * (x.dim() - 2))
    variance, mean = torch.var_mean(x, axes, unbiased=False, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + epsilon) * scale.reshape(shape) + bias.reshape(shape)


def group_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    epsilon: float = 1e-5,
    num_groups: int,
    stash_type: int = 1,
    opset: int = 21,
) -> Tensor:
    """Each group of channels of x (N, C, spatial) to mean 0 and variance 1, then scale and bias.

    Scale and bias have one value for each group in opset 18, one for each channel since 21.
    """
    grouped = x.reshape(x.shape[0], num_groups, -1)
    variance, mean = torch.var_mean(grouped, -1, unbiased=False, keepdim=True)
    normal = ((grouped - mean) * torch.rsqrt(variance + epsilon)).reshape(x.shape)
    if opset < 21:
        repeats = x.shape[1] // num_groups
        scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
    shape = (1, -1, *(1,) * (x.dim() - 2))
    return normal * scale.reshape(shape) + bias.reshape(shape)


def layer_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """The axes from ``axis`` on to mean 0 and variance 1, then scale and bias.

    The further outputs are the mean and the reciprocal of the standard deviation.
    """
    first = axis % x.dim()
    axes = tuple(range(first, x.dim()))
    if outputs == 1 and scale.shape == x.shape[first:]:
        return functional.layer_norm(x, x.shape[first:], scale, bias, epsilon)
    variance, mean = torch.var_mean(x, axes, unbiased=False, keepdim=True)
    inverse = torch.rsqrt(variance + epsilon)
    y = (x - mean) * inverse * scale
    y = y if bias is None else y + bias
    return y if outputs == 1 else (y, mean, inverse)[:outputs]


def rms_normalization(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    """The axes from ``axis`` on to root mean square 1, then scale."""
    axes = tuple(range(axis % x.dim(), x.dim()))
    return x * torch.rsqrt((x * x).mean(axes, keepdim=True) + epsilon) * scale


def local_response_normalization(
    x: Tensor, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int
) -> Tensor:
    """x / (bias + alpha / size * sum of squares of the channels around)^beta, x (N, C, ...)."""
    square = (x * x).reshape(x.shape[0], 1, x.shape[1], -1)
    before = (size - 1) // 2
    square = functional.pad(square, (0, 0, before, size - 1 - before))
    total = functional.avg_pool2d(square, (size, 1), stride=1) * size
    return x / (bias + alpha / size * total.reshape(x.shape)) ** beta


def lp_normalization(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """x divided by its p-norm along an axis; 0 where the norm is 0."""
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / torch.where(norm == 0, torch.ones_like(norm), norm))


def mean_variance_normalization(x: Tensor, *, axes: Sequence[int] = (0, 2, 3)) -> Tensor:
    """x to mean 0 and standard deviation 1 over the axes."""
    variance, mean = torch.var_mean(x, tuple(axes), unbiased=False, keepdim=True)
    return (x - mean) / (torch.sqrt(variance) + 1e-9)


OPS = {
    ("", "BatchNormalization"): Op(batch_normalization),
    ("", "GroupNormalization"): Op(group_normalization),
    ("", "InstanceNormalization"): Op(instance_normalization),
    ("", "LRN"): Op(local_response_normalization),
    ("", "LayerNormalization"): Op(layer_normalization),
    ("", "LpNormalization"): Op(lp_normalization),
    ("", "MeanVarianceNormalization"): Op(mean_variance_normalization),
    ("", "RMSNormalization"): Op(rms_normalization),
}
