"""``.npz`` and ``.npy`` files, decoded piece by piece: memory does not grow with the number of samples; no pickle."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.lib.format as npy
import numpy.typing as npt

from edgeq.calibration.sources.source import Field, Indices, Rows
from edgeq.errors import DataError

_DAMAGED = (KeyError, zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class ArrayFile:
    """An ``.npz`` archive, or an ``.npy`` file as a source of the one field ``x``."""

    path: Path
    fields: Mapping[str, Field]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @classmethod
    def open(cls, path: Path) -> "ArrayFile":
        """Read the headers.

        Raises:
            DataError: the file is damaged, empty, holds Python objects, or is stored in Fortran order.
        """
        try:
            with ExitStack() as stack:
                members = {key: _header(stream, f"{path.name}[{key}]") for key, stream in _streams(path, None, stack)}
        except _DAMAGED as error:
            raise DataError(f"{path.name} cannot be read: {error}; write it anew with numpy.savez") from None
        if not members:
            raise DataError(f"{path.name} holds no arrays; save the samples as `x` with numpy.savez")
        return cls(path, members)

    def read(self, indices: Indices, size: int) -> Iterator[Rows]:
        """See :class:`edgeq.calibration.sources.Source`."""
        try:
            with ExitStack() as stack:
                rows = {
                    key: _rows(stream, self.fields[key], indices, size)
                    for key, stream in _streams(self.path, tuple(self.fields), stack)
                }
                for _ in range(0, len(indices), size):
                    yield {key: next(iterator) for key, iterator in rows.items()}
        except _DAMAGED as error:
            raise DataError(f"{self.path.name} is damaged: {error}; write it anew with numpy.savez") from None


def _streams(path: Path, keys: tuple[str, ...] | None, stack: ExitStack) -> Iterator[tuple[str, IO[bytes]]]:
    # Each member through a handle of its own: they are decoded side by side.
    if path.suffix == ".npy":
        yield "x", stack.enter_context(path.open("rb"))
        return
    if keys is None:
        with zipfile.ZipFile(path) as archive:
            keys = tuple(entry.removesuffix(".npy") for entry in archive.namelist())
    for key in keys:
        archive = stack.enter_context(zipfile.ZipFile(path))
        yield key, stack.enter_context(archive.open(f"{key}.npy"))


def _header(stream: IO[bytes], name: str) -> Field:
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{name}: .npy version {version} is not read; save plain numeric arrays")
    shape, fortran, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(stream)
    if dtype.hasobject or dtype.kind not in "biuf":
        raise DataError(f"{name} has dtype {dtype}; edgeq reads plain numbers, never pickled objects")
    if fortran and len(shape) > 1:
        raise DataError(f"{name} is stored in Fortran order and cannot be streamed; save np.ascontiguousarray(array)")
    return Field(tuple(shape), dtype)


def _rows(stream: IO[bytes], field: Field, indices: Indices, size: int) -> Iterator[npt.NDArray[Any]]:
    _header(stream, "")
    if not field.shape:
        number = np.frombuffer(_exactly(stream, field.dtype.itemsize), field.dtype).reshape(())
        for _ in range(0, len(indices), size):
            yield number
        return
    row_shape = field.shape[1:]
    row_bytes = prod(row_shape) * field.dtype.itemsize
    position = 0
    for start in range(0, len(indices), size):
        wanted = indices[start : start + size]
        batch = np.empty((len(wanted), *row_shape), field.dtype)
        for first, last, at in _runs(wanted, max(1, _CHUNK_BYTES // max(1, row_bytes))):
            _skip(stream, (first - position) * row_bytes)
            data = _exactly(stream, (last - first) * row_bytes)
            batch[at : at + last - first] = np.frombuffer(data, field.dtype).reshape(-1, *row_shape)
            position = last
        yield batch


def _runs(indices: Indices, longest: int) -> Iterator[tuple[int, int, int]]:
    """Stretches of neighbouring indices: (first, one past the last, position in ``indices``)."""
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    for part_start, part in zip((0, *breaks), np.split(indices, breaks), strict=True):
        for offset in range(0, len(part), longest):
            piece = part[offset : offset + longest]
            yield int(piece[0]), int(piece[-1]) + 1, int(part_start) + offset


def _skip(stream: IO[bytes], count: int) -> None:
    if count and stream.seekable() and not isinstance(stream, zipfile.ZipExtFile):
        stream.seek(count, 1)
        return
    while count > 0:
        count -= len(_exactly(stream, min(count, _CHUNK_BYTES)))


def _exactly(stream: IO[bytes], count: int) -> bytes:
    parts: list[bytes] = []
    while count > 0:
        data = stream.read(min(count, _CHUNK_BYTES))
        if not data:
            raise EOFError(f"{count} bytes are missing at its end")
        parts.append(data)
        count -= len(data)
    return b"".join(parts)
