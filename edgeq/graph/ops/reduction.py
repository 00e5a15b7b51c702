"""Reductions over axes, positions of extrema, running sums.

The axes are an attribute before opset 13 (sum) or 18 (the others), and an input since.
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

from edgeq.graph.ops.op import Ints, Op, ints


def _axes(x: Tensor, given: Ints | None, attribute: Sequence[int] | None, noop: int) -> tuple[int, ...]:
    chosen = ints(given) if given is not None else list(attribute or ())
    if not chosen:
        return () if noop else tuple(range(x.dim()))
    return tuple(axis % x.dim() for axis in chosen)


def reduce_sum(
    x: Tensor,
    given: Ints | None = None,
    *,
    axes: Sequence[int] | None = None,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
) -> Tensor:
    """Sum."""
    dims = _axes(x, given, axes, noop_with_empty_axes)
    return x.sum(dims, keepdim=bool(keepdims), dtype=x.dtype) if dims else x.clone()


def reduce_mean(
    x: Tensor,
    given: Ints | None = None,
    *,
    axes: Sequence[int] | None = None,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
) -> Tensor:
    """Arithmetic mean; of integers, rounded towards zero."""
    dims = _axes(x, given, axes, noop_with_empty_axes)
    if not dims:
        return x.clone()
    if x.is_floating_point():
        return x.mean(dims, keepdim=bool(keepdims))
    total = x.sum(dims, keepdim=bool(keepdims))
    return torch.div(total, math.prod(x.shape[d] for d in dims), rounding_mode="trunc").to(x.dtype)


def reduce_max(
    x: Tensor,
    given: Ints | None = None,
    *,
    axes: Sequence[int] | None = None,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
) -> Tensor:
    """Maximum; of nothing, the type's lowest value."""
    dims = _axes(x, given, axes, noop_with_empty_axes)
    return _extremum(torch.amax, x, dims, bool(keepdims), of_nothing=_limit(x, lowest=True))


def reduce_min(
    x: Tensor,
    given: Ints | None = None,
    *,
    axes: Sequence[int] | None = None,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
) -> Tensor:
    """Minimum; of nothing, the type's highest value."""
    dims = _axes(x, given, axes, noop_with_empty_axes)
    return _extremum(torch.amin, x, dims, bool(keepdims), of_nothing=_limit(x, lowest=False))


def _extremum(
    function: Callable[..., Tensor], x: Tensor, dims: tuple[int, ...], keepdim: bool, of_nothing: float
) -> Tensor:
    if not dims:
        return x.clone()
    if any(x.shape[d] == 0 for d in dims):
        shape = [1 if d in dims else size for d, size in enumerate(x.shape) if keepdim or d not in dims]
        return torch.full(shape, of_nothing, dtype=x.dtype, device=x.device)
    return function(x, dims, keepdim)


def _limit(x: Tensor, lowest: bool) -> float:
    if x.is_floating_point():
        return -math.inf if lowest else math.inf
    if x.dtype == torch.bool:
        return not lowest
    return torch.iinfo(x.dtype).min if lowest else torch.iinfo(x.dtype).max


def reduce_prod(
    x: Tensor,
    given: Ints | None = None,
    *,
    axes: Sequence[int] | None = None,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
) -> Tensor:
    """Product."""
    dims = _axes(x, given, axes, noop_with_empty_axes)
    product = reduce(lambda values, dim: values.prod(dim, keepdim=True, dtype=x.dtype), dims, x)
    return product if keepdims or not dims else _drop(product, dims)


def _drop(x: Tensor, dims: Sequence[int]) -> Tensor:
    return x.reshape([size for d, size in enumerate(x.shape) if d not in dims])


def reduce_l1(
    x: Tensor,
    given: Ints | None = None,
    *,
    axes: Sequence[int] | None = None,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
) -> Tensor:
    """Sum of absolute values."""
    return reduce_sum(x.abs(), given, axes=axes, keepdims=keepdims, noop_with_empty_axes=noop_with_empty_axes)


def reduce_sum_square(
    x: Tensor,
    given: Ints | None = None,
    *,
    axes: Sequence[int] | None = None,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
) -> Tensor:
    """Sum of squares."""
    return reduce_sum(x * x, given, axes=axes, keepdims=keepdims, noop_with_empty_axes=noop_with_empty_axes)


def reduce_l2(
    x: Tensor,
    given: Ints | None = None,
    *,
    axes: Sequence[int] | None = None,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
) -> Tensor:
    """Square root of the sum of squares."""
    square = reduce_sum_square(x, given, axes=axes, keepdims=keepdims, noop_with_empty_axes=noop_with_empty_axes)
    return torch.sqrt(square).to(x.dtype)


def reduce_log_sum(
    x: Tensor,
    given: Ints | None = None,
    *,
    axes: Sequence[int] | None = None,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
) -> Tensor:
    """Logarithm of the sum."""
    total = reduce_sum(x, given, axes=axes, keepdims=keepdims, noop_with_empty_axes=noop_with_empty_axes)
    return torch.log(total).to(x.dtype)


def reduce_log_sum_exp(
    x: Tensor,
    given: Ints | None = None,
    *,
    axes: Sequence[int] | None = None,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
) -> Tensor:
    """Logarithm of the sum of exponentials, without overflow."""
    dims = _axes(x, given, axes, noop_with_empty_axes)
    if not dims:
        return x.clone()
    values = x if x.is_floating_point() else x.to(torch.float64)
    return torch.logsumexp(values, dims, keepdim=bool(keepdims)).to(x.dtype)


def arg_max(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    """Position of the maximum along an axis; the first one unless ``select_last_index``."""
    if not select_last_index:
        return x.argmax(axis, keepdim=bool(keepdims))
    return x.shape[axis] - 1 - x.flip(axis).argmax(axis, keepdim=bool(keepdims))


def arg_min(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    """Position of the minimum along an axis; the first one unless ``select_last_index``."""
    if not select_last_index:
        return x.argmin(axis, keepdim=bool(keepdims))
    return x.shape[axis] - 1 - x.flip(axis).argmin(axis, keepdim=bool(keepdims))


def cumulative_sum(x: Tensor, axis: Ints | int, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Running sum along an axis, optionally without the element itself, optionally from the end."""
    return _running(lambda values, dim: values.cumsum(dim, dtype=x.dtype), x, axis, exclusive, reverse, 0)


def cumulative_product(x: Tensor, axis: Ints | int, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Running product along an axis, optionally without the element itself, optionally from the end."""
    return _running(lambda values, dim: values.cumprod(dim, dtype=x.dtype), x, axis, exclusive, reverse, 1)


def _running(
    function: Callable[[Tensor, int], Tensor], x: Tensor, axis: Ints | int, exclusive: int, reverse: int, neutral: int
) -> Tensor:
    dim = axis if isinstance(axis, int) else ints(axis)[0]
    if reverse:
        x = x.flip(dim)
    if exclusive:
        first = torch.full_like(x.narrow(dim, 0, 1), neutral)
        x = torch.cat([first, x.narrow(dim, 0, x.shape[dim] - 1)], dim)
    x = function(x, dim)
    return x.flip(dim) if reverse else x


OPS = {
    ("", "ArgMax"): Op(arg_max),
    ("", "ArgMin"): Op(arg_min),
    ("", "CumProd"): Op(cumulative_product, static=(1,)),
    ("", "CumSum"): Op(cumulative_sum, static=(1,)),
    ("", "ReduceL1"): Op(reduce_l1, static=(1,)),
    ("", "ReduceL2"): Op(reduce_l2, static=(1,)),
    ("", "ReduceLogSum"): Op(reduce_log_sum, static=(1,)),
    ("", "ReduceLogSumExp"): Op(reduce_log_sum_exp, static=(1,)),
    ("", "ReduceMax"): Op(reduce_max, static=(1,)),
    ("", "ReduceMean"): Op(reduce_mean, static=(1,)),
    ("", "ReduceMin"): Op(reduce_min, static=(1,)),
    ("", "ReduceProd"): Op(reduce_prod, static=(1,)),
    ("", "ReduceSum"): Op(reduce_sum, static=(1,)),
    ("", "ReduceSumSquare"): Op(reduce_sum_square, static=(1,)),
}
