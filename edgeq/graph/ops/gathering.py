"""Reading and writing elements by position."""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgeq.graph.ops.op import Op


def gather(x: Tensor, indices: Tensor | int | Sequence[int], *, axis: int = 0) -> Tensor:
    """The slices of x along an axis at those positions; the axis is replaced by the axes of ``indices``."""
    dim = axis % x.dim()
    if isinstance(indices, int):
        return x.select(dim, indices)
    places = indices if isinstance(indices, Tensor) else torch.tensor(indices, device=x.device)
    places = _positive(places, x.shape[dim])
    picked = x.index_select(dim, places.reshape(-1))
    return picked.reshape((*x.shape[:dim], *places.shape, *x.shape[dim + 1 :]))


def _positive(indices: Tensor, size: int) -> Tensor:
    wide = indices.to(torch.int64)
    return torch.where(wide < 0, wide + size, wide)


def gather_elements(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """The elements of x whose place along an axis is given for each element of the result."""
    places = _positive(indices, x.shape[axis])
    # torch.gather allows a smaller index, ONNX requires equal sizes outside the axis: the same elements.
    return torch.gather(x, axis, places)


def gather_nd(x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """Slices of x at the coordinates in the last axis of ``indices``."""
    depth = indices.shape[-1]
    coordinates = [_positive(indices[..., k], x.shape[batch_dims + k]) for k in range(depth)]
    batch = []
    for dim in range(batch_dims):
        shape = [1] * (indices.dim() - 1)
        shape[dim] = x.shape[dim]
        batch.append(torch.arange(x.shape[dim], device=x.device).reshape(shape))
    return x[tuple(batch + coordinates)]


_SCATTER_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def scatter_elements(x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none") -> Tensor:
    """x with elements replaced by (or combined with) the updates at their places along an axis."""
    places = _positive(indices, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, places, updates)
    return x.scatter_reduce(axis, places, updates, _SCATTER_REDUCTIONS[reduction], include_self=True)


def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    """x with slices replaced by (or combined with) the updates at the coordinates in ``indices``."""
    depth = indices.shape[-1]
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
    for k in range(depth):
        flat = flat * x.shape[k] + _positive(indices[..., k], x.shape[k])
    rows = x.reshape(_product(x.shape[:depth]), _product(x.shape[depth:]))
    values = updates.reshape(flat.numel(), rows.shape[1])
    places = flat.reshape(-1, 1).expand_as(values)
    if reduction == "none":
        return rows.scatter(0, places, values).reshape(x.shape)
    combined = rows.scatter_reduce(0, places, values, _SCATTER_REDUCTIONS[reduction], include_self=True)
    return combined.reshape(x.shape)


def _product(sizes: Sequence[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


def one_hot(indices: Tensor, depth: Tensor | float | Sequence[float], values: Tensor, *, axis: int = -1) -> Tensor:
    """values[1] at each index along a new axis of that depth, values[0] elsewhere; nothing for an index outside."""
    count = int(depth) if isinstance(depth, Tensor | int | float) else int(depth[0])
    places = torch.arange(count, device=indices.device)
    wide = indices.to(torch.int64)
    wide = torch.where(wide < 0, wide + count, wide)
    hot = wide.unsqueeze(-1) == places
    result = torch.where(hot, values[1], values[0])
    return result.movedim(-1, axis)


def non_zero(x: Tensor) -> Tensor:
    """Coordinates of the elements that are not zero, (rank, count)."""
    return torch.nonzero(x).t()


def compress(x: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    """The slices along an axis (of x flattened by default) for which the condition holds."""
    kept = torch.nonzero(condition).reshape(-1)
    return x.reshape(-1).index_select(0, kept) if axis is None else x.index_select(axis, kept)


def top_k(
    x: Tensor,
    count: Tensor | Sequence[int] | int | None = None,
    *,
    axis: int = -1,
    k: int | None = None,
    largest: int = 1,
    sorted: int = 1,
) -> tuple[Tensor, Tensor]:
    """The k largest (or smallest) elements along an axis and their positions; of equal ones, the first."""
    wanted = k if count is None else int(count) if isinstance(count, Tensor | int) else int(count[0])
    values, places = torch.sort(x, dim=axis, descending=bool(largest), stable=True)
    return values.narrow(axis, 0, int(wanted or 0)), places.narrow(axis, 0, int(wanted or 0))


def trilu(x: Tensor, diagonal: Tensor | int | Sequence[int] | None = None, *, upper: int = 1) -> Tensor:
    """The upper (or lower) triangle of each matrix, 0 elsewhere."""
    k = 0 if diagonal is None else int(diagonal) if isinstance(diagonal, Tensor | int) else int(diagonal[0])
    return torch.triu(x, k) if upper else torch.tril(x, k)


def reverse_sequence(x: Tensor, lengths: Tensor, *, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    """For each batch element the first ``length`` steps in reverse order, the rest as they are."""
    steps = torch.arange(x.shape[time_axis], device=x.device).unsqueeze(1)
    places = torch.where(steps < lengths, lengths - 1 - steps, steps)  # (time, batch)
    moved = x.movedim((time_axis, batch_axis), (0, 1))
    index = places.reshape(*places.shape, *(1,) * (x.dim() - 2)).expand(moved.shape)
    return torch.gather(moved, 0, index).movedim((0, 1), (time_axis, batch_axis))


def unique(x: Tensor, *, axis: int | None = None, sorted: int = 1, outputs: int = 1) -> Tensor | tuple[Tensor, ...]:
    """Unique elements (or slices along an axis), their first positions, the inverse map and the counts."""
    values, inverse, counts = torch.unique(x, sorted=True, return_inverse=True, return_counts=True, dim=axis)
    flat = inverse.reshape(-1)
    places = torch.arange(flat.numel(), device=x.device)
    first = torch.full_like(counts, flat.numel()).scatter_reduce(0, flat, places, "amin")
    if not sorted:
        order = torch.argsort(first)
        rank = torch.argsort(order)
        values = values.index_select(axis or 0, order)
        first, counts, flat = first[order], counts[order], rank[flat]
    return values if outputs == 1 else (values, first, flat, counts)[:outputs]


OPS = {
    ("", "Compress"): Op(compress),
    ("", "Gather"): Op(gather, static=(1,)),
    ("", "GatherElements"): Op(gather_elements),
    ("", "GatherND"): Op(gather_nd),
    ("", "NonZero"): Op(non_zero),
    ("", "OneHot"): Op(one_hot, static=(1,)),
    ("", "ReverseSequence"): Op(reverse_sequence),
    ("", "Scatter"): Op(scatter_elements),
    ("", "ScatterElements"): Op(scatter_elements),
    ("", "ScatterND"): Op(scatter_nd),
    ("", "TopK"): Op(top_k, static=(1,)),
    ("", "Trilu"): Op(trilu, static=(1,)),
    ("", "Unique"): Op(unique),
}
