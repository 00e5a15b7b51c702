"""Cutting out and padding: Slice, Pad and their kin."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from edgeq.errors import UnsupportedOpError
from edgeq.graph.ops.op import Ints, Op, ints

_LARGEST = (2**31 - 1, 2**63 - 1)


def slice_axes(
    x: Tensor,
    starts_input: Ints | None = None,
    ends_input: Ints | None = None,
    axes_input: Ints | None = None,
    steps_input: Ints | None = None,
    *,
    starts: Sequence[int] | None = None,
    ends: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
) -> Tensor:
    """x[start:end:step] along each axis given; attributes before opset 10, inputs since."""
    begin = ints(starts_input) if starts_input is not None else list(starts or ())
    stop = ints(ends_input) if ends_input is not None else list(ends or ())
    chosen = ints(axes_input) if axes_input is not None else axes
    steps = ints(steps_input) if steps_input is not None else [1] * len(begin)
    dims = [axis % x.dim() for axis in chosen] if chosen is not None else list(range(len(begin)))
    slices = [slice(None)] * x.dim()
    for dim, first, last, step in zip(dims, begin, stop, steps, strict=True):
        positions = _positions(first, last, step, x.shape[dim])
        if step > 0:
            slices[dim] = slice(positions.start, positions.stop, step)
        else:
            x = x.index_select(dim, torch.tensor(list(positions), dtype=torch.int64, device=x.device))
    return x[tuple(slices)]


def _positions(first: int, last: int, step: int, size: int) -> range:
    """The places taken; unlike Python's, a start before the axis is moved onto it also when going backwards.

    The largest integer as an end means "to the very end" in both directions, as ONNX Runtime has it.
    """
    if last in _LARGEST:
        last = -size - 1 if step < 0 else size
    first, last = (place + size if place < 0 else place for place in (first, last))
    if step > 0:
        return range(min(max(first, 0), size), min(max(last, 0), size), step)
    return range(min(max(first, 0), size - 1), min(max(last, -1), size - 1), step)


def pad(
    x: Tensor,
    pads_input: Ints | None = None,
    constant: Tensor | float | None = None,
    axes: Ints | None = None,
    *,
    mode: str = "constant",
    pads: Sequence[int] | None = None,
    value: float = 0.0,
) -> Tensor:
    """x with more (or, where negative, fewer) elements before and after along each axis.

    Modes: constant, reflect (without the edge element), edge, wrap.
    """
    given = ints(pads_input) if pads_input is not None else list(pads or ())
    dims = [axis % x.dim() for axis in ints(axes)] if axes is not None else list(range(x.dim()))
    if mode == "constant":
        fill = value if constant is None else _number(constant)
        both = [0] * 2 * x.dim()
        for position, dim in enumerate(dims):
            place = 2 * (x.dim() - 1 - dim)
            both[place], both[place + 1] = given[position], given[position + len(dims)]
        return _constant_pad(x, both, fill)
    for position, dim in enumerate(dims):
        before, after = given[position], given[position + len(dims)]
        if before or after:
            x = x.index_select(dim, _source(x.shape[dim], before, after, mode, x.device))
    return x


def _constant_pad(x: Tensor, both: Sequence[int], fill: float) -> Tensor:
    if x.dtype == torch.bool:
        return functional.pad(x.to(torch.uint8), both, value=int(fill)).to(torch.bool)
    return functional.pad(x, both, value=fill)


def _number(value: Tensor | float | Sequence[float]) -> float:
    if isinstance(value, Tensor):
        return float(value) if value.is_floating_point() else int(value)
    return value[0] if isinstance(value, Sequence) else value


def _source(size: int, before: int, after: int, mode: str, device: torch.device) -> Tensor:
    position = torch.arange(-before, size + after, device=device)
    if mode == "edge":
        return position.clamp(0, size - 1)
    if mode == "wrap":
        return position % size
    if mode == "reflect":
        period = max(2 * (size - 1), 1)
        folded = position % period
        return torch.where(folded < size, folded, period - folded)
    raise UnsupportedOpError(f"Pad mode {mode!r} is not in the ONNX standard; use constant, reflect, edge or wrap")


OPS = {
    ("", "Pad"): Op(pad, static=(1, 2, 3)),
    ("", "Slice"): Op(slice_axes, static=(1, 2, 3, 4)),
}
