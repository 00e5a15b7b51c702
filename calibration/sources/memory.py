"""Arrays at hand, for callers of the Python functions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from edgeq.calibration.sources.source import Field, Indices, Rows


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Named arrays in memory, samples first."""

    arrays: Mapping[str, npt.NDArray[Any]]
    name: str = "the given arrays"

    @property
    def fields(self) -> Mapping[str, Field]:
        """Shapes and types of the arrays."""
        return {key: Field(tuple(array.shape), array.dtype) for key, array in self.arrays.items()}

    def read(self, indices: Indices, size: int) -> Iterator[Rows]:
        """See :class:`edgeq.calibration.sources.Source`."""
        for start in range(0, len(indices), size):
            here = indices[start : start + size]
            yield {key: array[here] if array.ndim else array for key, array in self.arrays.items()}
