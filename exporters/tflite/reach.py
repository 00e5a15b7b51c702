"""Which codes an int8 tensor can hold, as the file alone tells: the ends of its type, and what limits them."""

import math

import numpy as np

from edgeq.exporters.tflite.read import File, Operator, Tensor
from edgeq.plan.stored import HIGHEST, LOWEST

#: Fused activation -> its bounds in real numbers.
_BOUNDS = {"RELU": (0.0, math.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}


def reach(file: File, index: int, before: int | None = None) -> tuple[int, int]:
    """The lowest and the highest code that a tensor can hold.

    Args:
        file: the file.
        index: of the tensor.
        before: how many operators are looked at; None for all.
    """
    tensor = file.tensors[index]
    if tensor.data is not None:
        return int(tensor.array.min(initial=HIGHEST)), int(tensor.array.max(initial=LOWEST))
    position = next((i for i, operator in enumerate(file.operators[:before]) if index in operator.outputs), None)
    if position is None:
        return LOWEST, HIGHEST
    maker = file.operators[position]
    sources = [i for i in maker.inputs if i >= 0 and file.tensors[i].integer]
    if maker.code in ("MAXIMUM", "MINIMUM"):
        pick = max if maker.code == "MAXIMUM" else min
        lows, highs = zip(*(reach(file, source, position) for source in sources), strict=True)
        return pick(lows), pick(highs)
    if maker.code == "SLICE":
        return reach(file, sources[0], position)
    if maker.code == "QUANTIZE" and sources and np.array_equal(file.tensors[sources[0]].scale, tensor.scale):
        by = int(tensor.zero_point[0]) - int(file.tensors[sources[0]].zero_point[0])
        return _shifted(reach(file, sources[0], position), by)
    return _activated(maker, tensor)


def _shifted(codes: tuple[int, int], by: int) -> tuple[int, int]:
    low, high = (min(max(code + by, LOWEST), HIGHEST) for code in codes)
    return low, high


def _activated(operator: Operator, tensor: Tensor) -> tuple[int, int]:
    if operator.activation not in _BOUNDS or not tensor.scale.size:
        return LOWEST, HIGHEST
    steps = (min(max(bound / float(tensor.scale[0]), LOWEST), 2 * HIGHEST) for bound in _BOUNDS[operator.activation])
    zero = int(tensor.zero_point[0])
    # As TFLite rounds the bounds: half away from zero.
    low, high = (min(max(zero + int(step + math.copysign(0.5, step)), LOWEST), HIGHEST) for step in steps)
    return low, high


__all__ = ["reach"]
