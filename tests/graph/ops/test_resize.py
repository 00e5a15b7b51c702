"""Resize in every mode and coordinate system equals ONNX Runtime's."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

_COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric")
_NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def _image() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((1, 2, 5, 7)).astype(np.float32)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    coordinates=st.sampled_from(_COORDINATES),
    nearest=st.sampled_from(_NEAREST),
    height=st.integers(1, 12),
    width=st.integers(1, 15),
    fixed=st.booleans(),
)
def test_resize_to_sizes(
    mode: str, coordinates: str, nearest: str, height: int, width: int, fixed: bool, agrees: Any
) -> None:
    attributes: dict[str, Any] = {"coordinate_transformation_mode": coordinates, "mode": mode}
    if mode == "nearest":
        attributes["nearest_mode"] = nearest
    inputs = [_image(), None, None, np.array([1, 2, height, width])]
    agrees("Resize", inputs, opset=19, constant={3} if fixed else (), **attributes)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    coordinates=st.sampled_from(_COORDINATES),
    scale=st.sampled_from([0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0]),
    outside=st.integers(0, 1),
)
def test_resize_by_scales(mode: str, coordinates: str, scale: float, outside: int, agrees: Any) -> None:
    attributes: dict[str, Any] = {"coordinate_transformation_mode": coordinates, "mode": mode}
    if mode == "cubic":
        attributes |= {"exclude_outside": outside, "cubic_coeff_a": -0.5}
    agrees("Resize", [_image(), None, np.array([1, 1, scale, scale], np.float32)], opset=19, constant={2}, **attributes)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("size", [(3, 4), (2, 7), (4, 3)])
def test_antialiased_shrinking(mode: str, size: tuple[int, int], agrees: Any) -> None:
    # ONNX Runtime's antialiasing rounds its weights along the way.
    agrees("Resize", [_image(), None, None, np.array([1, 2, *size])], opset=19, constant={3}, mode=mode, antialias=1)


def test_crop_and_resize(agrees: Any) -> None:
    roi = np.array([0, 0, 0.2, -0.3, 1, 1, 0.9, 1.2], np.float32)
    for mode in ("nearest", "linear"):
        agrees(
            "Resize",
            [_image(), roi, None, np.array([1, 2, 6, 6])],
            opset=19,
            constant={1, 3},
            mode=mode,
            coordinate_transformation_mode="tf_crop_and_resize",
            extrapolation_value=10.0,
        )


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scale", [1.0, 2.0, 3.0])
def test_upsample_and_resize_of_opset_10(mode: str, scale: float, agrees: Any) -> None:
    scales = np.array([1, 1, scale, scale], np.float32)
    agrees("Upsample", [_image(), scales], opset=9, constant={1}, mode=mode)
    agrees("Resize", [_image(), scales], opset=10, constant={1}, mode=mode)
