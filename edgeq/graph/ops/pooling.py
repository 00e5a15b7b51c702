"""Pooling over windows and over whole spatial axes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from edgeq.graph.ops.op import Op
from edgeq.graph.ops.windows import Windows, pad_spatial, windows

_MAX_POOL = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def max_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    """Largest element of each window of x (N, C, spatial); the second output is its flat position in x."""
    rank = x.dim() - 2
    w = windows(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad)
    end = _end_padding(x.shape[2:], w, ceil_mode)
    if not x.is_floating_point():
        values = x.to(torch.float64)
        if outputs == 1:
            return _max(values, w, end, rank).to(x.dtype)
        return _max(values, w, end, rank).to(x.dtype), _max_positions(values, w, end, storage_order)
    if outputs == 1:
        return _max(x, w, end, rank)
    return _max(x, w, end, rank), _max_positions(x, w, end, storage_order)


def _max(x: Tensor, w: Windows, end: Sequence[int], rank: int) -> Tensor:
    padding = w.begin
    if tuple(end) != w.begin or min(end) < 0 or any(2 * p > k for p, k in zip(w.begin, w.kernel, strict=True)):
        x, padding = pad_spatial(x, w.begin, end, -math.inf), (0,) * rank
    result: Tensor = _MAX_POOL[rank](x, w.kernel, w.strides, padding, w.dilations)
    return result


def _max_positions(x: Tensor, w: Windows, end: Sequence[int], storage_order: int) -> Tensor:
    rank = x.dim() - 2
    padded = pad_spatial(x, w.begin, end, -math.inf)
    _, flat = _MAX_POOL[rank](padded, w.kernel, w.strides, 0, w.dilations, return_indices=True)
    spatial = x.shape[2:]
    coordinates: list[Tensor] = []
    for size, begin in zip(reversed(padded.shape[2:]), reversed(w.begin), strict=True):
        coordinates.insert(0, flat % size - begin)
        flat = torch.div(flat, size, rounding_mode="floor")
    order = range(rank) if storage_order == 0 else range(rank - 1, -1, -1)
    position = torch.zeros_like(flat)
    for axis in order:
        position = position * spatial[axis] + coordinates[axis]
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(*x.shape[:2], *(1,) * rank)
    return position + planes * math.prod(spatial)


def _end_padding(spatial: Sequence[int], w: Windows, ceil_mode: int) -> tuple[int, ...]:
    """Padding at the end such that rounding down gives the standard's number of windows.

    Rounding up, a window that would start in the padding after the input is dropped.
    """
    if not ceil_mode:
        return w.end
    result = []
    for size, extent, step, begin, end in zip(spatial, w.extent, w.strides, w.begin, w.end, strict=True):
        count = -(-(size + begin + end - extent) // step) + 1
        if (count - 1) * step >= size + begin:
            count -= 1
        result.append((count - 1) * step + extent - size - begin)
    return tuple(result)


def average_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Mean of each window of x (N, C, spatial), over the elements that are inside (or in the padding, if counted)."""
    w = windows(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad)
    end = _end_padding(x.shape[2:], w, ceil_mode)
    total = _window_sum(pad_spatial(x, w.begin, end), w)
    if not any(w.begin) and max(end) <= 0:
        return total / math.prod(w.kernel)
    inside = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    if count_include_pad:
        inside = pad_spatial(inside, w.begin, w.end, 1.0)
        end = tuple(e - already for e, already in zip(end, w.end, strict=True))
        inside = pad_spatial(inside, (0,) * len(end), end)
    else:
        inside = pad_spatial(inside, w.begin, end)
    return total / _window_sum(inside, w)


def lp_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    p: int = 2,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """p-norm of each window of x (N, C, spatial)."""
    w = windows(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad)
    powers = pad_spatial(x.abs() ** p, w.begin, _end_padding(x.shape[2:], w, ceil_mode))
    return _window_sum(powers, w) ** (1 / p)


def _window_sum(x: Tensor, w: Windows) -> Tensor:
    rank = x.dim() - 2
    if max(w.dilations) == 1 and rank == 1:
        return functional.avg_pool2d(x.unsqueeze(2), (1, *w.kernel), (1, *w.strides), divisor_override=1).squeeze(2)
    if max(w.dilations) == 1:
        pool = functional.avg_pool2d if rank == 2 else functional.avg_pool3d
        result: Tensor = pool(x, w.kernel, w.strides, divisor_override=1)
        return result
    kernel = torch.ones((1, 1, *w.kernel), dtype=x.dtype, device=x.device)
    planes = _CONV[rank](x.reshape(-1, 1, *x.shape[2:]), kernel, None, w.strides, 0, w.dilations)
    return planes.reshape(*x.shape[:2], *planes.shape[2:])


def global_average_pool(x: Tensor) -> Tensor:
    """Mean over the spatial axes, kept with size 1."""
    return x.mean(dim=tuple(range(2, x.dim())), keepdim=True)


def global_max_pool(x: Tensor) -> Tensor:
    """Maximum over the spatial axes, kept with size 1."""
    return x.amax(dim=tuple(range(2, x.dim())), keepdim=True)


def global_lp_pool(x: Tensor, *, p: int = 2) -> Tensor:
    """p-norm over the spatial axes, kept with size 1."""
    return (x.abs() ** p).sum(dim=tuple(range(2, x.dim())), keepdim=True) ** (1 / p)


OPS = {
    ("", "AveragePool"): Op(average_pool),
    ("", "GlobalAveragePool"): Op(global_average_pool),
    ("", "GlobalLpPool"): Op(global_lp_pool),
    ("", "GlobalMaxPool"): Op(global_max_pool),
    ("", "LpPool"): Op(lp_pool),
    ("", "MaxPool"): Op(max_pool),
}
