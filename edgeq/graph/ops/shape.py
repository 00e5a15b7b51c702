"""Ops that rearrange or describe a tensor without computing on its elements."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from edgeq.errors import ModelError
from edgeq.graph.ops.op import Ints, Op, ints
from edgeq.graph.ops.types import convert


def identity(x: Tensor) -> Tensor:
    """x itself."""
    return x


def dropout(
    x: Tensor,
    ratio_input: Tensor | None = None,
    training_mode: Tensor | bool | None = None,
    *,
    ratio: float = 0.5,
    seed: int | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    """x itself: the graph is run as for inference. The second output is the mask, all true."""
    return x if outputs == 1 else (x, torch.ones_like(x, dtype=torch.bool))


def cast(x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """x in another element type."""
    return convert(x, to, bool(saturate))


def cast_like(
    x: Tensor, target: Tensor, *, saturate: int = 1, round_mode: str = "up", input_types: tuple[int, ...] = (0, 0)
) -> Tensor:
    """x in the element type of the target."""
    return convert(x, input_types[1], bool(saturate)) if input_types[1] else x.to(target.dtype)


def reshape(x: Tensor, shape: Ints, *, allowzero: int = 0) -> Tensor:
    """x in another shape; 0 keeps a size (unless ``allowzero``), -1 takes what is left."""
    wanted = ints(shape)
    return x.reshape([x.shape[d] if size == 0 and not allowzero else size for d, size in enumerate(wanted)])


def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """x as a matrix: the axes before ``axis``, and the rest."""
    first = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:first]), math.prod(x.shape[first:]))


def transpose(x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    """The axes in another order; reversed by default."""
    return x.permute(tuple(perm) if perm is not None else tuple(reversed(range(x.dim()))))


def squeeze(x: Tensor, given: Ints | None = None, *, axes: Sequence[int] | None = None) -> Tensor:
    """Without the axes given (all of size 1 by default)."""
    chosen = ints(given) if given is not None else axes
    if chosen is None:
        return x.squeeze()
    dropped = {axis % x.dim() for axis in chosen}
    return x.reshape([size for d, size in enumerate(x.shape) if d not in dropped])


def unsqueeze(x: Tensor, given: Ints | None = None, *, axes: Sequence[int] | None = None) -> Tensor:
    """With new axes of size 1 at the positions given, counted in the result."""
    chosen = ints(given) if given is not None else list(axes or ())
    rank = x.dim() + len(chosen)
    for axis in sorted(axis % rank for axis in chosen):
        x = x.unsqueeze(axis)
    return x


def expand(x: Tensor, shape: Ints) -> Tensor:
    """x broadcast with that shape."""
    wanted = ints(shape)
    wanted = [1] * (x.dim() - len(wanted)) + wanted
    have = [1] * (len(wanted) - x.dim()) + list(x.shape)
    return x.expand([h if w == 1 else w for h, w in zip(have, wanted, strict=True)])


def tile(x: Tensor, repeats: Ints) -> Tensor:
    """x repeated along each axis."""
    return x.repeat(ints(repeats))


def concat(*tensors: Tensor, axis: int) -> Tensor:
    """The tensors one after the other along an axis."""
    return torch.cat(tensors, axis)


def split(
    x: Tensor,
    sizes: Ints | None = None,
    *,
    axis: int = 0,
    num_outputs: int | None = None,
    split: Sequence[int] | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """x cut along an axis into parts of those sizes; into equal parts (the last may be smaller) by default."""
    lengths = ints(sizes) if sizes is not None else split
    if lengths is None:
        count = outputs if num_outputs is None else num_outputs
        if count != outputs:
            raise ModelError(f"Split into num_outputs={count} parts has {outputs} outputs; export the model anew")
        each = -(-x.shape[axis] // count)
        lengths = [min(each, max(x.shape[axis] - each * index, 0)) for index in range(count)]
    parts = torch.split(x, list(lengths), axis)
    return parts[0] if outputs == 1 else tuple(parts)


def shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """The sizes of the axes from ``start`` to ``end``."""
    return torch.tensor(list(x.shape)[start:end], dtype=torch.int64, device=x.device)


def size(x: Tensor) -> Tensor:
    """How many elements x has."""
    return torch.tensor(x.numel(), dtype=torch.int64, device=x.device)


def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Blocks of channels of x (N, C, H, W) moved into space."""
    n, c, h, w = x.shape
    b, depth = blocksize, c // blocksize**2
    if mode == "DCR":
        moved = x.reshape(n, b, b, depth, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        moved = x.reshape(n, depth, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return moved.reshape(n, depth, h * b, w * b)


def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Blocks of space of x (N, C, H, W) moved into channels."""
    n, c, h, w = x.shape
    b = blocksize
    blocks = x.reshape(n, c, h // b, b, w // b, b)
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return blocks.permute(*order).reshape(n, c * b * b, h // b, w // b)


OPS = {
    ("", "Cast"): Op(cast),
    ("", "CastLike"): Op(cast_like),
    ("", "Concat"): Op(concat),
    ("", "DepthToSpace"): Op(depth_to_space),
    ("", "Dropout"): Op(dropout),
    ("", "Expand"): Op(expand, static=(1,)),
    ("", "Flatten"): Op(flatten),
    ("", "Identity"): Op(identity),
    ("", "Reshape"): Op(reshape, static=(1,)),
    ("", "Shape"): Op(shape),
    ("", "Size"): Op(size),
    ("", "SpaceToDepth"): Op(space_to_depth),
    ("", "Split"): Op(split, static=(1,)),
    ("", "Squeeze"): Op(squeeze, static=(1,)),
    ("", "Tile"): Op(tile, static=(1,)),
    ("", "Transpose"): Op(transpose),
    ("", "Unsqueeze"): Op(unsqueeze, static=(1,)),
}
