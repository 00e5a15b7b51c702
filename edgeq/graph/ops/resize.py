"""Resize and Upsample: along each axis, a weighted sum of a few input positions (taps) for each output position.

The coordinates are computed in float32, as ONNX Runtime does, so that ties of nearest neighbours fall alike.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq.errors import UnsupportedOpError
from edgeq.graph.ops.op import Ints, Op, ints

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Axis:
    """One axis to resize: sizes, the scale between them, and the region of interest (start, end)."""

    dim: int
    size: int
    target: int
    scale: float
    roi: tuple[float, float]


def resize(
    x: Tensor,
    roi: Tensor | Sequence[float] | None = None,
    scales: Tensor | Sequence[float] | None = None,
    sizes: Ints | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
    opset: int = 19,
) -> Tensor:
    """x with other sizes, by nearest neighbour, linear or cubic interpolation."""
    if opset < 11:  # two inputs: x and scales; the only coordinates were those of Upsample
        return upsample(x, roi, mode=mode)
    dims = [axis % x.dim() for axis in axes] if axes is not None else list(range(x.dim()))
    plan = _axes(x, dims, _numbers(roi), _numbers(scales), sizes, keep_aspect_ratio_policy)
    kind = x.dtype
    values = x if kind.is_floating_point and kind != torch.float16 else x.to(torch.float32)
    outside = torch.zeros((), dtype=torch.bool, device=x.device)
    for axis in plan:
        if axis.size == axis.target and axis.scale == 1.0 and coordinate_transformation_mode != "tf_crop_and_resize":
            continue
        positions = coordinates(axis.size, axis.target, axis.scale, axis.roi, coordinate_transformation_mode)
        if mode == "nearest":
            values = values.index_select(axis.dim, _tensor(_nearest(positions, axis.size, nearest_mode), x.device))
        else:
            kernel = _kernel(mode, cubic_coeff_a)
            places, weights = taps(
                positions, axis.size, axis.scale if antialias else 1.0, kernel, bool(exclude_outside)
            )
            values = _weighted(values, axis.dim, places, weights)
        if coordinate_transformation_mode == "tf_crop_and_resize":
            beyond = _tensor((positions < 0) | (positions > axis.size - 1), x.device)
            outside = outside | beyond.reshape([-1 if d == axis.dim else 1 for d in range(x.dim())])
    if coordinate_transformation_mode == "tf_crop_and_resize":
        values = torch.where(outside, torch.full((), extrapolation_value, dtype=values.dtype, device=x.device), values)
    return values if values.dtype == kind else _cast(values, kind)


def upsample(
    x: Tensor,
    factors: Tensor | Sequence[float] | None = None,
    *,
    mode: str = "nearest",
    scales: Sequence[float] | None = None,
) -> Tensor:
    """Resize of opset 10 and Upsample: the input position is the output position over the scale, rounded down."""
    wanted = scales if factors is None else factors
    return resize(
        x,
        None,
        wanted,
        None,
        mode="linear" if mode == "bilinear" else mode,
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _numbers(values: Tensor | Sequence[float] | None) -> list[float]:
    if values is None:
        return []
    return [float(v) for v in (values.reshape(-1).tolist() if isinstance(values, Tensor) else values)]


def _tensor(array: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device)


def _cast(values: Tensor, kind: torch.dtype) -> Tensor:
    if kind.is_floating_point:
        return values.to(kind)
    limits = torch.iinfo(kind)
    return values.clamp(limits.min, limits.max).to(kind)


def _axes(
    x: Tensor, dims: Sequence[int], roi: Sequence[float], scales: Sequence[float], sizes: Ints | None, policy: str
) -> list[_Axis]:
    count = len(dims)
    regions = [(roi[k], roi[k + count]) if len(roi) == 2 * count else (0.0, 1.0) for k in range(count)]
    if scales:
        targets = [math.floor(x.shape[dim] * factor) for dim, factor in zip(dims, scales, strict=True)]
        factors = list(scales)
    elif sizes is not None:
        targets = ints(sizes)
        factors = [target / x.shape[dim] for dim, target in zip(dims, targets, strict=True)]
        if policy != "stretch":
            common = min(factors) if policy == "not_larger" else max(factors)
            factors = [common] * count
            targets = [math.floor(common * x.shape[dim] + 0.5) for dim in dims]
    else:
        raise UnsupportedOpError("Resize has neither scales nor sizes; give one of them")
    return [
        _Axis(dim, x.shape[dim], target, factor, region)
        for dim, target, factor, region in zip(dims, targets, factors, regions, strict=True)
    ]


def coordinates(size: int, target: int, scale: float, roi: tuple[float, float], mode: str) -> Floats:
    """The input position of every output position, by the standard's formulas."""
    out = np.arange(target, dtype=np.float32)
    step = np.float32(scale)
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and target > 1):
        return (out + np.float32(0.5)) / step - np.float32(0.5)
    if mode == "pytorch_half_pixel":
        return np.zeros(1, np.float32)
    if mode == "asymmetric":
        return out / step
    if mode == "align_corners":
        return out * np.float32(size - 1) / np.float32(target - 1) if target > 1 else np.zeros(target, np.float32)
    if mode == "half_pixel_symmetric":
        adjustment = np.float32(target) / (step * np.float32(size))
        offset = np.float32(size / 2) * (1 - adjustment)
        return (offset + (out + np.float32(0.5)) / step - np.float32(0.5)).astype(np.float32)
    if mode == "tf_crop_and_resize":
        start, end = np.float32(roi[0]), np.float32(roi[1])
        if target == 1:
            return np.full(1, 0.5 * (start + end) * (size - 1), np.float32)
        return (start * (size - 1) + out * (end - start) * (size - 1) / (target - 1)).astype(np.float32)
    raise UnsupportedOpError(f"Resize coordinate mode {mode!r} is not executed; use half_pixel or asymmetric")


def _nearest(positions: Floats, size: int, mode: str) -> Places:
    rounded: dict[str, Callable[[Floats], Floats]] = {
        "round_prefer_floor": lambda p: np.ceil(p - np.float32(0.5)),
        "round_prefer_ceil": lambda p: np.floor(p + np.float32(0.5)),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    if mode not in rounded:
        raise UnsupportedOpError(f"Resize nearest mode {mode!r} is not in the ONNX standard")
    result: Places = np.clip(rounded[mode](positions), 0, size - 1).astype(np.int64)
    return result


#: Weight of an input at a distance, and how far it reaches.
Kernel = tuple[Callable[[Floats], Floats], int]


def _kernel(mode: str, a: float) -> Kernel:
    if mode == "linear":
        return lambda distance: np.maximum(1 - np.abs(distance), 0).astype(np.float32), 1
    if mode == "cubic":
        return lambda distance: _cubic(np.abs(distance), a), 2
    raise UnsupportedOpError(f"Resize mode {mode!r} is not in the ONNX standard; use nearest, linear or cubic")


def _cubic(d: Floats, a: float) -> Floats:
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0)).astype(np.float32)


def taps(positions: Floats, size: int, scale: float, kernel: Kernel, exclude_outside: bool) -> tuple[Places, Floats]:
    """Input positions (outputs, taps), clamped to the axis, and their weights.

    Shrinking with antialiasing (``scale`` < 1), the kernel is stretched and its weights normalized.
    """
    weight, reach = kernel
    shrink = min(scale, 1.0)
    low = math.floor(-reach / shrink) + 1
    offsets = np.arange(low, 2 - low)
    base = np.floor(positions).astype(np.int64)
    ratio = positions - base
    places = base[:, None] + offsets
    weights = weight(((offsets - ratio[:, None]) * shrink).astype(np.float32))
    inside = (places >= 0) & (places < size)
    if exclude_outside:
        weights = weights * inside
    if exclude_outside or shrink < 1:
        weights = weights / weights.sum(1, keepdims=True)
    return np.clip(places, 0, size - 1), weights.astype(np.float32)


def _weighted(x: Tensor, dim: int, places: Places, weights: Floats) -> Tensor:
    total: Tensor | None = None
    for tap in range(places.shape[1]):
        if not weights[:, tap].any():
            continue
        shape = [-1 if d == dim else 1 for d in range(x.dim())]
        factor = _tensor(weights[:, tap].copy(), x.device).to(x.dtype).reshape(shape)
        term = x.index_select(dim, _tensor(places[:, tap].copy(), x.device)) * factor
        total = term if total is None else total + term
    assert total is not None
    return total


OPS = {
    ("", "Resize"): Op(resize, static=(1, 2, 3)),
    ("", "Upsample"): Op(upsample, static=(1,)),
}
