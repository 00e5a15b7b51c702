"""Convolutions with random attributes equal ONNX Runtime's."""

from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject


def _window(data: DataObject, rank: int, dilated: bool = True) -> dict[str, Any]:
    def numbers(low: int, high: int, count: int = rank) -> list[int]:
        return data.draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    attributes: dict[str, Any] = {"kernel_shape": numbers(1, 3), "strides": numbers(1, 3)}
    if dilated:
        attributes["dilations"] = numbers(1, 2)
    auto_pad = data.draw(st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if auto_pad == "NOTSET":
        attributes["pads"] = numbers(0, 2, 2 * rank)
    else:
        attributes["auto_pad"] = auto_pad
    return attributes


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), rank=st.integers(1, 3), group=st.integers(1, 3), bias=st.booleans(), seed=st.integers(0, 9))
def test_conv(data: DataObject, rank: int, group: int, bias: bool, seed: int, agrees: Any) -> None:
    attributes = _window(data, rank)
    # ONNX Runtime ignores the dilation when it pads automatically; torch's and the standard's windows count it.
    if "auto_pad" in attributes:
        attributes["dilations"] = [1] * rank
    random = np.random.default_rng(seed)
    x = random.standard_normal((2, 2 * group, *([7] * rank))).astype(np.float32)
    weight = random.standard_normal((3 * group, 2, *attributes["kernel_shape"])).astype(np.float32)
    inputs = [x, weight] + ([random.standard_normal(3 * group).astype(np.float32)] if bias else [])
    agrees("Conv", inputs, constant={1, 2}, group=group, **attributes)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), rank=st.integers(1, 2), group=st.integers(1, 2), bias=st.booleans(), seed=st.integers(0, 9))
def test_conv_transpose(data: DataObject, rank: int, group: int, bias: bool, seed: int, agrees: Any) -> None:
    attributes = _window(data, rank)
    strides, dilations, kernel = attributes["strides"], attributes["dilations"], attributes["kernel_shape"]
    extra = [data.draw(st.integers(0, step - 1)) for step in strides]
    if "pads" in attributes:
        attributes["output_padding"] = extra
        extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        pads = attributes["pads"]
        sizes = [4 * s + extents[d] + extra[d] - pads[d] - pads[d + rank] for d, s in enumerate(strides)]
        assume(min(sizes) > 0)
    elif attributes["auto_pad"] != "VALID":
        # Smaller windows than strides would need negative padding, which ONNX Runtime does not do.
        assume(all((k - 1) * d + 1 >= s for k, d, s in zip(kernel, dilations, strides, strict=True)))
    random = np.random.default_rng(seed)
    x = random.standard_normal((2, 2 * group, *([5] * rank))).astype(np.float32)
    weight = random.standard_normal((2 * group, 3, *kernel)).astype(np.float32)
    inputs = [x, weight] + ([random.standard_normal(3 * group).astype(np.float32)] if bias else [])
    agrees("ConvTranspose", inputs, constant={1, 2}, group=group, **attributes)


def test_conv_transpose_to_an_output_shape(agrees: Any) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((1, 2, 3, 3)).astype(np.float32)
    weight = random.standard_normal((2, 2, 3, 3)).astype(np.float32)
    for auto_pad in ("NOTSET", "SAME_UPPER", "SAME_LOWER"):
        agrees("ConvTranspose", [x, weight], constant={1}, strides=[3, 2], output_shape=[8, 6], auto_pad=auto_pad)
