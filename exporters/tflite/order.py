"""The order in which a file stores a tensor's elements, as algebra: what needs a transpose and what does not.

An order is a tuple of atoms (size, stride), slowest first: the file's position runs through the atoms as through
digits, and each digit moves the model's own (row-major ONNX) position by its stride. A 1 x C x H x W feature map stored
as NHWC has the atoms (H*W, 1), (C, H*W). Atoms of size 1 are dropped and neighbours that continue each other merged,
so two storages are the same bytes exactly if their orders are equal. A reshape never changes an order.
"""

from collections.abc import Iterable, Sequence
from math import prod

from edgeq.graph.layout import channels_last

Order = tuple[tuple[int, int], ...]


def natural(size: int) -> Order:
    """The row-major order of a tensor with that many elements."""
    return ((size, 1),) if size > 1 else ()


def strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides of a shape, in elements."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def permuted(shape: Sequence[int], permutation: Sequence[int]) -> Order:
    """The order of a tensor of that shape stored with its axes permuted."""
    steps = strides(shape)
    return merge((shape[axis], steps[axis]) for axis in permutation)


def merge(atoms: Iterable[tuple[int, int]]) -> Order:
    """Canonical form: no atoms of size 1, and neighbours that continue each other joined."""
    merged: list[tuple[int, int]] = []
    for size, stride in atoms:
        if size == 1:
            continue
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return tuple(merged)


def refine(order: Order, cuts: frozenset[int]) -> list[tuple[int, int]] | None:
    """The order with every atom cut at those strides; None if a cut does not fall between whole digits."""
    result: list[tuple[int, int]] = []
    for size, stride in order:
        inside = sorted((cut for cut in cuts if stride < cut < stride * size), reverse=True)
        top = stride * size
        for cut in inside:
            if top % cut or cut % stride:
                return None
            result.append((top // cut, cut))
            top = cut
        result.append((top // stride, stride))
    return result


def transpose(order: Order, shape: Sequence[int], permutation: Sequence[int]) -> Order | None:
    """The order seen from y = x.transpose(permutation) where x is stored in ``order``: the same bytes renamed."""
    atoms = refine(order, frozenset(strides(shape)))
    if atoms is None:
        return None
    old = strides(shape)
    new_shape = [shape[axis] for axis in permutation]
    new = dict(zip(permutation, strides(new_shape), strict=True))
    renamed = []
    for size, stride in atoms:
        axis = next(a for a in range(len(shape)) if old[a] <= stride < old[a] * shape[a])
        renamed.append((size, new[axis] * (stride // old[axis])))
    return merge(renamed)


def conversion(source: Order, target: Order) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """(view, permutation) so that stored.reshape(view).transpose(permutation) has the target's order."""
    cuts = frozenset(stride for _, stride in source + target)
    first, second = refine(source, cuts), refine(target, cuts)
    if first is None or second is None:
        return None
    position = {stride: index for index, (_, stride) in enumerate(first)}
    return tuple(size for size, _ in first), tuple(position[stride] for _, stride in second)


def axis_permutation(order: Order, shape: Sequence[int], stored: Sequence[int] = ()) -> tuple[int, ...] | None:
    """The permutation of the axes in which the tensor is stored, or None if its bytes are no permutation of axes.

    Axes of size 1 could stand anywhere: they go where the stored shape has a 1, else the natural, else the
    channels-last place is taken.
    """
    steps = strides(shape)
    long_axes: list[int] = []
    atoms = refine(order, frozenset(steps))
    if atoms is None:
        return None
    remaining = {axis: shape[axis] for axis in range(len(shape)) if shape[axis] != 1}
    for size, stride in atoms:
        axis = next((a for a in remaining if steps[a] <= stride < steps[a] * shape[a]), None)
        if axis is None:  # an axis of size 0
            return None
        if long_axes and long_axes[-1] == axis:
            continue
        if axis in long_axes or stride * size != steps[axis] * shape[axis]:
            return None
        long_axes.append(axis)
    short_axes = [axis for axis in range(len(shape)) if shape[axis] == 1]
    candidates = [_fit(long_axes, short_axes, stored), tuple(range(len(shape))), channels_last(len(shape))]
    for candidate in candidates:
        if candidate is not None and permuted(shape, candidate) == order:
            return candidate
    return (*short_axes, *long_axes)


def _fit(long_axes: Sequence[int], short_axes: Sequence[int], stored: Sequence[int]) -> tuple[int, ...] | None:
    if len(stored) != len(long_axes) + len(short_axes):
        return None
    long_left, short_left = list(long_axes), list(short_axes)
    result = []
    for size in stored:
        pool = short_left if size == 1 else long_left
        if not pool:
            return None
        result.append(pool.pop(0))
    return tuple(result)
