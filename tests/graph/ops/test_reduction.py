"""Reductions over random axes, in both of the standard's forms, equal ONNX Runtime's."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

_OPS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    op=st.sampled_from(_OPS),
    axes=st.lists(st.integers(-3, -1), max_size=3, unique=True),
    keepdims=st.integers(0, 1),
    form=st.sampled_from(["attribute", "constant", "computed"]),
    noop=st.integers(0, 1),
)
def test_reduce(op: str, axes: list[int], keepdims: int, form: str, noop: int, agrees: Any) -> None:
    x = np.abs(np.random.default_rng(0).standard_normal((3, 4, 5))).astype(np.float32) + 0.1
    if form == "attribute":
        attribute = {"axes": axes} if axes else {}
        agrees(f"Reduce{op}", [x], opset=11, keepdims=keepdims, **attribute)
        return
    # Without axes and told to do nothing, ONNX Runtime still maps the elements; the standard's tests ask for it too.
    inputs = [x, np.array(axes, np.int64)]
    fixed = {1} if form == "constant" else ()
    agrees(f"Reduce{op}", inputs, opset=18, keepdims=keepdims, noop_with_empty_axes=noop, constant=fixed)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_position_of_an_extremum_with_ties(op: str, last: int, axis: int, agrees: Any) -> None:
    x = np.random.default_rng(0).integers(0, 3, (3, 4, 5)).astype(np.float32)
    for keepdims in (0, 1):
        agrees(op, [x], axis=axis, keepdims=keepdims, select_last_index=last)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_cumulative_sum(exclusive: int, reverse: int, agrees: Any) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    agrees("CumSum", [x, np.array(-1)], exclusive=exclusive, reverse=reverse, constant={1})


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax_in_both_meanings(op: str, opset: int, agrees: Any) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    agrees(op, [x], opset=opset)
    agrees(op, [x], opset=opset, axis=1)
    agrees(op, [x], opset=opset, axis=-1)
