"""``package.module:callable``: the user's own code gives batches."""

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibration.sources.source import Field, Indices, Rows
from edgeq.errors import DataError, EdgeqError


@dataclass(frozen=True)
class FunctionSource:
    """Batches of a callable without arguments, which is called anew for every pass and must give the same each time.

    A batch is an array, a mapping of arrays by input name, or a pair of one of these and labels. Arrays are NumPy or
    anything that ``numpy.asarray`` takes (a CPU tensor), samples first.
    """

    name: str
    function: Callable[[], Iterable[Any]]
    fields: Mapping[str, Field]

    @classmethod
    def open(cls, reference: str) -> "FunctionSource":
        """Import the callable and count its samples in one pass.

        Raises:
            DataError: it cannot be imported or called, gives nothing, or gives batches of changing shapes.
        """
        return cls.of(_import(reference), reference)

    @classmethod
    def of(cls, function: Callable[[], Iterable[Any]], name: str) -> "FunctionSource":
        """A source of a callable at hand."""
        fields: dict[str, Field] = {}
        for number, rows in enumerate(_batches(function, name)):
            for key, array in rows.items():
                known = fields.get(key, Field((0, *array.shape[1:]), array.dtype))
                if (number and key not in fields) or known.shape[1:] != array.shape[1:] or known.dtype != array.dtype:
                    raise DataError(f"{name}: batch {number} differs from the first in {key!r}: {array.shape}")
                fields[key] = Field((known.shape[0] + len(array), *array.shape[1:]), array.dtype)
        if not fields:
            raise DataError(f"{name} gave no batches")
        return cls(name, function, fields)

    def read(self, indices: Indices, size: int) -> Iterator[Rows]:
        """See :class:`edgeq.calibration.sources.Source`."""
        held: Rows = {}
        seen = 0
        for rows in _batches(self.function, self.name):
            count = len(next(iter(rows.values())))
            here = indices[np.searchsorted(indices, seen) : np.searchsorted(indices, seen + count)] - seen
            seen += count
            picked = {key: array[here] for key, array in rows.items()}
            held = {key: np.concatenate([held[key], picked[key]]) for key in picked} if held else picked
            while held and len(next(iter(held.values()))) >= size:
                yield {key: array[:size] for key, array in held.items()}
                held = {key: array[size:] for key, array in held.items()}
        if seen != next(iter(self.fields.values())).shape[0]:
            raise DataError(f"{self.name} gave {seen} samples now, another number before; it must repeat itself")
        if held and len(next(iter(held.values()))):
            yield held


def _import(reference: str) -> Callable[[], Iterable[Any]]:
    module_name, _, attribute = reference.partition(":")
    here = str(Path.cwd())
    # A console script does not have the working folder on its path, python -m does.
    sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:
        raise DataError(f"{reference}: cannot be imported: {_told(error)}") from None
    finally:
        sys.path.remove(here)
    if not callable(function):
        raise DataError(f"{reference} is a {type(function).__name__}, not callable; name a function that gives batches")
    return function  # type: ignore[no-any-return]


def _batches(function: Callable[[], Iterable[Any]], name: str) -> Iterator[Rows]:
    try:
        for batch in function():
            yield _rows(batch, name)
    except EdgeqError:
        raise
    except Exception as error:
        raise DataError(f"{name} raised {_told(error)}") from None


def _rows(batch: Any, name: str) -> Rows:
    inputs, labels = batch if isinstance(batch, (tuple, list)) and len(batch) == 2 else (batch, None)
    rows = {str(k): _array(v, name) for k, v in inputs.items()} if isinstance(inputs, Mapping) else None
    if rows is None:
        rows = {"x": _array(inputs, name)}
    if labels is not None:
        rows["y"] = _array(labels, name)
    lengths = {len(array) if array.ndim else 0 for array in rows.values()}
    if len(lengths) != 1:
        raise DataError(f"{name}: a batch holds arrays of different lengths {sorted(lengths)}; samples come first")
    return rows


def _array(value: Any, name: str) -> npt.NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name}: a batch holds {array.dtype}; give numbers")
    return array


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
