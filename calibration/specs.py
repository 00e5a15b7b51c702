"""What the model wants of a sample: the inputs' names, shapes and types, without the model."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class InputSpec:
    """One input of the model.

    Attributes:
        name: its ONNX name.
        shape: the batch first; None for a dimension that is not fixed.
        dtype: what the model takes.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


class _Type(Protocol):
    def numpy(self) -> np.dtype[Any]: ...


class ValueLike(Protocol):
    """What :func:`input_specs` needs of a graph's input; an ``onnx_ir.Value`` is one."""

    @property
    def name(self) -> str | None: ...  # noqa: D102
    @property
    def shape(self) -> Iterable[Any] | None: ...  # noqa: D102
    @property
    def dtype(self) -> _Type | None: ...  # noqa: D102


def input_specs(values: Iterable[ValueLike]) -> tuple[InputSpec, ...]:
    """The specs of a graph's inputs, in order (``input_specs(graph.inputs)``)."""
    return tuple(
        InputSpec(
            value.name or "",
            tuple(d if isinstance(d, int) else None for d in value.shape or ()),
            np.dtype(np.float32) if value.dtype is None else np.dtype(value.dtype.numpy()),
        )
        for value in values
    )
