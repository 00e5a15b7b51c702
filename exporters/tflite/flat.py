"""Read flatbuffers that nobody vouches for: every offset and length is checked, and the work is bounded.

The generated accessors trust the file: a wrong offset ends in struct errors, a wrong length in a loop of 2^32 steps.
Layout of the format: https://flatbuffers.dev/internals/
"""

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import ModelError


class Flat:
    """Checked access to one buffer. A table is its position; an absent field is None.

    Args:
        data: the file.
        budget: how many vector elements may be visited in all; a file whose vectors point into one another would else
            unfold into far more work than its size.
    """

    def __init__(self, data: bytes, budget: int) -> None:
        self.data, self.budget = data, budget

    def root(self) -> int:
        """Position of the root table."""
        return self._follow(0)

    def number(self, table: int, field: int, kind: str, default: int) -> int:
        """A scalar field; ``kind`` is a struct code."""
        position = self._field(table, field)
        return default if position is None else int(self._unpack(kind, position))

    def table(self, table: int, field: int) -> int | None:
        """A field that is a table."""
        position = self._field(table, field)
        return None if position is None else self._follow(position)

    def tables(self, table: int, field: int) -> list[int]:
        """A field that is a vector of tables."""
        start, length = self._vector(table, field, 4)
        return [self._follow(start + 4 * index) for index in range(length)]

    def numbers(self, table: int, field: int, dtype: str) -> npt.NDArray[Any] | None:
        """A field that is a vector of scalars, as an array; None if absent."""
        if self._field(table, field) is None:
            return None
        kind = np.dtype(dtype).newbyteorder("<")
        start, length = self._vector(table, field, kind.itemsize)
        return np.frombuffer(self.data, kind, length, start)

    def raw(self, table: int, field: int) -> bytes | None:
        """A field that is a vector of bytes; None if absent."""
        if self._field(table, field) is None:
            return None
        start, length = self._vector(table, field, 1)
        return self.data[start : start + length]

    def slice(self, start: int, length: int) -> bytes:
        """Bytes outside of any table, already known to lie in the file."""
        self._spend(length)
        return self.data[start : start + length]

    def text(self, table: int, field: int) -> str:
        """A string field; "" if absent."""
        return (self.raw(table, field) or b"").decode("utf-8", errors="replace")

    def _field(self, table: int, field: int) -> int | None:
        vtable = table - self._unpack("i", table)
        size = self._unpack("H", vtable)
        entry = 4 + 2 * field
        if entry + 2 > size:
            return None
        offset = self._unpack("H", vtable + entry)
        return table + offset if offset else None

    def _vector(self, table: int, field: int, width: int) -> tuple[int, int]:
        position = self._field(table, field)
        if position is None:
            return 0, 0
        start = self._follow(position)
        length = int(self._unpack("I", start))
        if length * width > len(self.data) - start - 4:
            raise ModelError("a vector reaches beyond the end of the file; it is damaged or cut short")
        self._spend(1 + length)
        return start + 4, length

    def _spend(self, elements: int) -> None:
        self.budget -= elements
        if self.budget < 0:
            raise ModelError("its vectors overlap without end; it is damaged")

    def _follow(self, position: int) -> int:
        return position + int(self._unpack("I", position))

    def _unpack(self, kind: str, position: int) -> int:
        if position < 0:
            raise ModelError("an offset points before the beginning of the file; it is damaged")
        try:
            value: int = struct.unpack_from(f"<{kind}", self.data, position)[0]
        except struct.error:
            raise ModelError("an offset points beyond the end of the file; it is damaged or cut short") from None
        return value
