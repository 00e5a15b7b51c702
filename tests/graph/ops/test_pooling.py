"""Pooling with random attributes equals ONNX Runtime's."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject


def _attributes(data: DataObject, rank: int, dilated: bool) -> dict[str, Any]:
    def numbers(low: int, high: list[int] | int, count: int) -> list[int]:
        limits = high if isinstance(high, list) else [high] * count
        return [data.draw(st.integers(low, limit)) for limit in limits]

    kernel = numbers(1, 3, rank)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": numbers(1, 3, rank)}
    attributes["pads"] = numbers(0, [k - 1 for k in kernel] * 2, 2 * rank)
    attributes["ceil_mode"] = data.draw(st.integers(0, 1))
    if dilated:
        attributes["dilations"] = numbers(1, 2, rank)
    return attributes


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), rank=st.integers(1, 3), indices=st.booleans(), seed=st.integers(0, 9))
def test_max_pool(data: DataObject, rank: int, indices: bool, seed: int, agrees: Any) -> None:
    attributes = _attributes(data, rank, dilated=True)
    x = np.random.default_rng(seed).standard_normal((2, 3, *([7] * rank))).astype(np.float32)
    agrees("MaxPool", [x], outputs=2 if indices else 1, opset=19, **attributes)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), rank=st.integers(1, 3), counted=st.integers(0, 1), seed=st.integers(0, 9))
def test_average_pool(data: DataObject, rank: int, counted: int, seed: int, agrees: Any) -> None:
    attributes = _attributes(data, rank, dilated=True)
    x = np.random.default_rng(seed).standard_normal((2, 3, *([7] * rank))).astype(np.float32)
    agrees("AveragePool", [x], opset=19, count_include_pad=counted, **attributes)


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_max_pool_of_codes(kind: type, agrees: Any) -> None:
    x = np.random.default_rng(0).integers(0, 100, (1, 2, 6, 6)).astype(kind)
    agrees("MaxPool", [x], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
def test_global_pools(op: str, agrees: Any) -> None:
    agrees(op, [np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(p=st.integers(1, 3), kernel=st.integers(1, 3), stride=st.integers(1, 2))
def test_lp_pool(p: int, kernel: int, stride: int, agrees: Any) -> None:
    assume(kernel >= 1)
    x = np.random.default_rng(p).standard_normal((2, 3, 6, 6)).astype(np.float32)
    agrees("LpPool", [x], kernel_shape=[kernel] * 2, strides=[stride] * 2, p=p)
