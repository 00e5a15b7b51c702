"""Padding of windows that slide over spatial axes, shared by convolution and pooling."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from edgeq.errors import UnsupportedOpError


@dataclass(frozen=True)
class Windows:
    """Kernel, step and padding for each spatial axis, in elements."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """Length that one window covers, dilation included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def symmetric(self) -> bool:
        """Whether every axis has equal, non-negative padding on both sides."""
        return self.begin == self.end and min(self.begin, default=0) >= 0


def windows(
    spatial: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    pads: Sequence[int] | None,
    auto_pad: str,
) -> Windows:
    """The windows that the ONNX attributes describe on an input of that spatial size.

    Raises:
        UnsupportedOpError: ``auto_pad`` is none of the standard's values.
    """
    rank = len(spatial)
    steps = tuple(strides or (1,) * rank)
    spread = tuple(dilations or (1,) * rank)
    begin, end = tuple((pads or (0,) * 2 * rank)[:rank]), tuple((pads or (0,) * 2 * rank)[rank:])
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max((-(-size // step) - 1) * step + (k - 1) * d + 1 - size, 0)
            for size, k, step, d in zip(spatial, kernel, steps, spread, strict=True)
        ]
        smaller, larger = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        begin, end = (smaller, larger) if auto_pad == "SAME_UPPER" else (larger, smaller)
    elif auto_pad == "VALID":
        begin = end = (0,) * rank
    elif auto_pad != "NOTSET":
        raise UnsupportedOpError(f"auto_pad {auto_pad!r} is not in the ONNX standard; use NOTSET with explicit pads")
    return Windows(tuple(kernel), steps, spread, begin, end)


def pad_spatial(x: torch.Tensor, begin: Sequence[int], end: Sequence[int], value: float = 0.0) -> torch.Tensor:
    """Pad (or crop, where negative) the last axes by a constant."""
    if not any(begin) and not any(end):
        return x
    reversed_pairs = [side for b, e in zip(reversed(begin), reversed(end), strict=True) for side in (b, e)]
    return functional.pad(x, reversed_pairs, value=value)
