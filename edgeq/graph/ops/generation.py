"""Ops that make tensors out of numbers."""

import torch
from torch import Tensor

from edgeq.graph.ops.op import Op, ints
from edgeq.graph.ops.types import torch_type


def constant(
    *,
    value: Tensor | None = None,
    value_float: float | None = None,
    value_floats: list[float] | None = None,
    value_int: int | None = None,
    value_ints: list[int] | None = None,
) -> Tensor:
    """A constant that the canonical form keeps as a node, since it is itself an output of the graph."""
    if value is not None:
        return value
    if value_float is not None or value_floats is not None:
        return torch.tensor(value_floats if value_float is None else value_float, dtype=torch.float32)
    return torch.tensor(value_ints if value_int is None else value_int, dtype=torch.int64)


def constant_of_shape(shape: Tensor, *, value: Tensor | None = None) -> Tensor:
    """A tensor of that shape filled with one value (float 0 by default)."""
    sizes = ints(shape)
    if value is None:
        return torch.zeros(sizes, device=shape.device)
    return value.reshape(()).expand(sizes).clone()


def arange(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """Numbers from ``start`` in steps of ``delta`` before ``limit``."""
    # The count is the standard's; torch.arange of the bounds can differ by one for floats.
    count = max(int(torch.ceil((limit.double() - start.double()) / delta.double())), 0)
    return start + torch.arange(count, device=start.device).to(start.dtype) * delta


def eye_like(x: Tensor, *, dtype: int | None = None, k: int = 0) -> Tensor:
    """Ones on the k-th diagonal of a matrix of x's shape."""
    kind = x.dtype if dtype is None else torch_type(dtype)
    rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    columns = torch.arange(x.shape[1], device=x.device)
    return (columns - rows == k).to(kind)


OPS = {
    ("", "Constant"): Op(constant),
    ("", "ConstantOfShape"): Op(constant_of_shape),
    ("", "EyeLike"): Op(eye_like),
    ("", "Range"): Op(arange),
}
