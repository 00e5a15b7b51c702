"""The contract of a source of samples."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Rows = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Field:
    """One named array of a source.

    Attributes:
        shape: of the whole array, samples first; () for a number that all samples share.
        dtype: as stored.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Source(Protocol):
    """Named arrays with a common first axis, read in order, never whole."""

    @property
    def name(self) -> str:
        """How messages name it."""

    @property
    def fields(self) -> Mapping[str, Field]:
        """What it holds, known without reading samples."""

    def read(self, indices: Indices, size: int) -> Iterator[Rows]:
        """The samples of those ascending indices, ``size`` at a time (the last batch may be shorter).

        Memory is bounded by ``size`` samples and a constant.

        Raises:
            DataError: the data behind it is damaged.
        """
