"""Reading and writing by position equal ONNX Runtime's."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), axis=st.integers(-3, 2), fixed=st.booleans())
def test_gather(data: DataObject, axis: int, fixed: bool, agrees: Any) -> None:
    x = np.random.default_rng(0).standard_normal((4, 5, 6)).astype(np.float32)
    size = x.shape[axis]
    shape = data.draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    count = int(np.prod(shape))
    places = data.draw(st.lists(st.integers(-size, size - 1), min_size=count, max_size=count))
    agrees("Gather", [x, np.array(places, np.int64).reshape(shape)], axis=axis, constant={1} if fixed else ())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data(), axis=st.integers(-3, 2), reduction=st.sampled_from(["none", "add", "mul", "max", "min"]))
def test_gather_and_scatter_elements(data: DataObject, axis: int, reduction: str, agrees: Any) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((4, 5, 6)).astype(np.float32)
    size = x.shape[axis]
    index = np.argsort(random.standard_normal(x.shape), axis=axis).astype(np.int64)
    signed = index - size if data.draw(st.booleans()) else index
    agrees("GatherElements", [x, signed], axis=axis)
    updates = random.standard_normal(x.shape).astype(np.float32)
    agrees("ScatterElements", [x, signed, updates], axis=axis, reduction=reduction, opset=18)


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("depth", [1, 2])
def test_gather_nd(batch: int, depth: int, agrees: Any) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((4, 3, 3, 2)).astype(np.float32)
    agrees("GatherND", [x, random.integers(-3, 3, (4, 5, depth))], batch_dims=batch)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_nd(reduction: str, agrees: Any) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((4, 3, 2)).astype(np.float32)
    places = np.array([[0, 1], [3, 2], [-2, 0]])
    updates = random.standard_normal((3, 2)).astype(np.float32)
    agrees("ScatterND", [x, places, updates], reduction=reduction, opset=18)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    axis=st.integers(-3, 2),
    count=st.integers(1, 3),
    largest=st.integers(0, 1),
    kind=st.sampled_from([np.float32, np.int64]),
    seed=st.integers(0, 5),
)
def test_top_k_of_values_with_ties(axis: int, count: int, largest: int, kind: type, seed: int, agrees: Any) -> None:
    x = np.random.default_rng(seed).integers(0, 4, (3, 4, 5)).astype(kind)
    agrees("TopK", [x, np.array([count])], axis=axis, largest=largest, outputs=2, constant={1} if seed % 2 else ())


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("diagonal", [-1, 0, 2])
def test_trilu(upper: int, diagonal: int, agrees: Any) -> None:
    x = np.random.default_rng(0).standard_normal((2, 4, 5)).astype(np.float32)
    agrees("Trilu", [x, np.array(diagonal)], upper=upper)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot(axis: int, agrees: Any) -> None:
    indices = np.array([[0, 2], [-1, 7]])
    agrees("OneHot", [indices, np.array(4), np.array([0.5, 2.0], np.float32)], axis=axis, constant={1})


def test_non_zero_and_compress(agrees: Any) -> None:
    x = np.array([[0.0, 1.0], [2.0, 0.0]], np.float32)
    agrees("NonZero", [x])
    agrees("Compress", [x, np.array([False, True])], axis=1)
    agrees("Compress", [x, np.array([False, True, True])])
