"""The values of many samples, held batch by batch in bounded memory.

A value on a grid is held as its integer codes (a byte a number, exact); what exceeds the budget goes to an unnamed
temporary file (in ``TMPDIR``) and is read back batch by batch. So memory does not grow with the number of samples.
"""

import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

import numpy as np
import torch

from edgeq.plan.quantization import Quantization

#: Bytes held in memory before values go to a file.
BUDGET = 256 * 2**20


@dataclass(frozen=True, eq=False)
class _Spilled:
    """Where a tensor lies in its value's file."""

    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(eq=False)
class _Value:
    """The batches of one value."""

    grid: Quantization | None
    held: list[torch.Tensor | _Spilled] = field(default_factory=list)
    file: IO[bytes] | None = None
    bytes: int = 0


class Streams:
    """Value -> its batches. Deterministic: what is read is what was put, on its grid where it has one."""

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget, self._used = budget, 0
        self._values: dict[str, _Value] = {}

    def __contains__(self, value: str) -> bool:
        return value in self._values

    def __len__(self) -> int:
        return len(self._values)

    def append(self, value: str, tensor: torch.Tensor, grid: Quantization | None = None) -> None:
        """Add the value's next batch; with a grid, rounded to it."""
        entry = self._values.setdefault(value, _Value(grid))
        packed = tensor.detach() if grid is None else encode(tensor, grid)
        size = packed.numel() * packed.element_size()
        if self._used + size <= self._budget:
            # A view of something larger would keep all of it alive.
            entry.held.append(packed.clone() if packed.untyped_storage().nbytes() > 2 * size else packed)
            entry.bytes += size
            self._used += size
            return
        if entry.file is None:
            entry.file = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the value is dropped or forgotten
            weakref.finalize(entry, entry.file.close)
        offset = entry.file.seek(0, 2)
        packed.contiguous().numpy().tofile(entry.file)
        entry.held.append(_Spilled(offset, tuple(packed.shape), packed.dtype))

    def get(self, value: str, index: int) -> torch.Tensor:
        """One batch, as real numbers."""
        entry = self._values[value]
        held = entry.held[index]
        packed = _read(entry.file, held) if isinstance(held, _Spilled) else held
        return packed if entry.grid is None else decode(packed, entry.grid)

    def on_grid(self, value: str) -> bool:
        """Whether the value is held on a grid."""
        return self._values[value].grid is not None

    def batches(self, value: str) -> Iterator[torch.Tensor]:
        """All batches of a value."""
        return (self.get(value, index) for index in range(len(self._values[value].held)))

    def drop(self, value: str) -> None:
        """Forget a value, if it is held."""
        entry = self._values.pop(value, None)
        if entry is not None:
            self._used -= entry.bytes
            if entry.file is not None:
                entry.file.close()


def encode(real: torch.Tensor, grid: Quantization) -> torch.Tensor:
    """Codes of a real tensor: rounded half to even, saturated; counted from the lowest code."""
    low, high = grid.qmin - int(grid.zero_point), grid.qmax - int(grid.zero_point)
    codes = (real.to(torch.float32) / float(grid.scale)).round_().clamp_(low, high)
    return codes.sub_(low).to(torch.uint8 if high - low < 256 else torch.int32)


def decode(codes: torch.Tensor, grid: Quantization) -> torch.Tensor:
    """The real numbers (float32) of :func:`encode`'s codes."""
    return codes.to(torch.float32).add_(grid.qmin - int(grid.zero_point)).mul_(float(grid.scale))


def _read(file: IO[bytes] | None, where: _Spilled) -> torch.Tensor:
    assert file is not None
    file.seek(where.offset)
    dtype = torch.empty(0, dtype=where.dtype).numpy().dtype
    return torch.from_numpy(np.fromfile(file, dtype, int(np.prod(where.shape)))).reshape(where.shape)
