"""What a long method has done, part by part, so that an interrupted run goes on there."""

import io
from collections.abc import Callable, Mapping

import numpy as np

#: (key of a part, makes it) -> the part: the stored one, or a new one that is stored.
Store = Callable[[str, Callable[[], bytes]], bytes]


def dump(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A part's arrays as bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]
    return buffer.getvalue()


def load(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of :func:`dump`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {entry: arrays[entry] for entry in arrays.files}
