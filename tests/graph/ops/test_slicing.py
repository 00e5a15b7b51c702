"""Slice and Pad with random arguments, constant or computed, equal ONNX Runtime's."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

_FAR = st.sampled_from([-(1 << 31), (1 << 31) - 1, np.iinfo(np.int64).max, np.iinfo(np.int64).min])
_PLACE = st.one_of(st.integers(-9, 9), _FAR)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(data=st.data(), fixed=st.booleans())
def test_slice(data: DataObject, fixed: bool, agrees: Any) -> None:
    x = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    axes = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True))
    signed = [axis - 3 if data.draw(st.booleans()) else axis for axis in axes]
    starts = [data.draw(_PLACE) for _ in axes]
    ends = [data.draw(_PLACE) for _ in axes]
    steps = [data.draw(st.sampled_from([-3, -2, -1, 1, 2, 3])) for _ in axes]
    arrays = [np.array(values, np.int64) for values in (starts, ends, signed, steps)]
    agrees("Slice", [x, *arrays], constant={1, 2, 3, 4} if fixed else ())


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data(), mode=st.sampled_from(["constant", "reflect", "edge", "wrap"]), fixed=st.booleans())
def test_pad(data: DataObject, mode: str, fixed: bool, agrees: Any) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    low = -1 if mode == "constant" else 0
    pads = [data.draw(st.integers(low, size - 1)) for size in (*x.shape, *x.shape)]
    inputs = [x, np.array(pads, np.int64)] + ([np.array(1.5, np.float32)] if mode == "constant" else [])
    agrees("Pad", inputs, mode=mode, opset=19, constant={1, 2} if fixed else ())


@pytest.mark.parametrize("fixed", [True, False])
def test_pad_of_some_axes(fixed: bool, agrees: Any) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    inputs = [x, np.array([1, 0, 0, 2], np.int64), None, np.array([-1, 0], np.int64)]
    agrees("Pad", inputs, opset=19, constant={1, 3} if fixed else ())
