"""Arrays of one number per sample, as text in report.json, so that a later gate can pair samples.

The smallest dtype that holds the numbers exactly, little-endian, in base64; nothing is compressed, so the bytes do not
depend on a compression library.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import DataError

_DTYPES = ("u1", "<u2", "<i4", "<i8", "<f8")


def encode(array: npt.NDArray[np.generic]) -> dict[str, Any]:
    """A one-dimensional array of numbers as a JSON object."""
    if array.size and not np.isfinite(array).all():
        dtype = "<f8"
    else:
        dtype = next(d for d in _DTYPES if d == "<f8" or np.array_equal(array.astype(d).astype(array.dtype), array))
    return {"dtype": dtype, "base64": base64.b64encode(array.astype(dtype).tobytes()).decode()}


def decode(value: Mapping[str, Any], dtype: type[np.generic], samples: int) -> npt.NDArray[Any]:
    """The array, shape (samples,).

    Raises:
        DataError: the object does not hold that many numbers.
    """
    if value["dtype"] not in _DTYPES:
        raise DataError(f"report.json: dtype {value['dtype']!r} of per-sample numbers is none of {', '.join(_DTYPES)}")
    try:
        array = np.frombuffer(base64.b64decode(value["base64"], validate=True), value["dtype"])
    except (binascii.Error, ValueError) as error:
        raise DataError(f"report.json: per-sample numbers are not base64 of {value['dtype']}: {error}") from error
    if array.shape != (samples,):
        raise DataError(f"report.json: {array.size} per-sample numbers for {samples} samples")
    return array.astype(dtype)
