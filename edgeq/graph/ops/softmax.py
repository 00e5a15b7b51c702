"""Softmax and its kin, in both of the standard's meanings."""

from collections.abc import Callable

import torch
from torch import Tensor

from edgeq.graph.ops.op import Op


def softmax(x: Tensor, *, axis: int | None = None, opset: int = 13) -> Tensor:
    """exp(x) / sum exp(x) along an axis; before opset 13 over all axes from ``axis`` on."""
    return _along(x, axis, opset, lambda values, dim: torch.softmax(values, dim))


def log_softmax(x: Tensor, *, axis: int | None = None, opset: int = 13) -> Tensor:
    """Logarithm of :func:`softmax`."""
    return _along(x, axis, opset, lambda values, dim: torch.log_softmax(values, dim))


def hardmax(x: Tensor, *, axis: int | None = None, opset: int = 13) -> Tensor:
    """1 at the first maximum along the axis, 0 elsewhere."""
    return _along(x, axis, opset, _first_maximum)


def _first_maximum(x: Tensor, dim: int) -> Tensor:
    return torch.zeros_like(x).scatter(dim, x.argmax(dim, keepdim=True), 1.0)


def _along(x: Tensor, axis: int | None, opset: int, function: Callable[[Tensor, int], Tensor]) -> Tensor:
    if opset >= 13:
        return function(x, -1 if axis is None else axis)
    first = (1 if axis is None else axis) % max(x.dim(), 1)
    return function(x.flatten(first) if first < x.dim() else x, first).reshape(x.shape)


OPS = {
    ("", "Hardmax"): Op(hardmax),
    ("", "LogSoftmax"): Op(log_softmax),
    ("", "Softmax"): Op(softmax),
}
