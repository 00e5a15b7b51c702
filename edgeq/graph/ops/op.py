"""What the table holds of an op, and how static arguments are read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

#: A shape-like argument: a list when the graph has it as a constant, else a tensor.
Ints = torch.Tensor | Sequence[int]


@dataclass(frozen=True)
class Op:
    """One op of the table.

    Attributes:
        function: see the package's docstring.
        static: positions of inputs that the function takes as Python numbers or (nested) lists where they are constant.
    """

    function: Callable[..., Any]
    static: tuple[int, ...] = ()


def ints(values: Ints) -> list[int]:
    """A shape-like argument as a list of Python integers."""
    flat = values.reshape(-1).tolist() if isinstance(values, torch.Tensor) else values
    return [int(v) for v in flat]
