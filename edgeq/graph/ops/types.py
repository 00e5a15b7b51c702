"""ONNX element types as torch types."""

import torch
from torch import Tensor

from edgeq.errors import UnsupportedOpError

#: ONNX TensorProto.DataType number -> torch type. Types below a byte are held in a byte.
TORCH_TYPES: dict[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    4: torch.uint16,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    12: torch.uint32,
    13: torch.uint64,
    16: torch.bfloat16,
    17: torch.float8_e4m3fn,
    18: torch.float8_e4m3fnuz,
    19: torch.float8_e5m2,
    20: torch.float8_e5m2fnuz,
    21: torch.uint8,
    22: torch.int8,
    23: torch.float32,
    25: torch.uint8,
    26: torch.int8,
}

#: ONNX number of a type below a byte -> (lowest, highest) value.
SUB_BYTE: dict[int, tuple[int, int]] = {21: (0, 15), 22: (-8, 7), 25: (0, 3), 26: (-2, 1)}
_FLOAT8 = (17, 18, 19, 20)
_FLOAT4 = 23
#: torch holds these but hardly computes on them.
_STORAGE_ONLY = (torch.uint16, torch.uint32, torch.uint64)


def torch_type(number: int) -> torch.dtype:
    """The torch type of an ONNX element type.

    Raises:
        UnsupportedOpError: strings, complex numbers and bare exponents.
    """
    if number not in TORCH_TYPES:
        raise UnsupportedOpError(f"ONNX element type {number} is not executed; cast to a number type that torch has")
    return TORCH_TYPES[number]


def convert(x: Tensor, number: int, saturate: bool = True) -> Tensor:
    """x in an ONNX element type; 8-bit and 4-bit floats are rounded to their grid and widened to float32."""
    target = torch_type(number)
    if number == _FLOAT4:
        return _to_float4(x)
    if number in _FLOAT8:
        return _to_float8(x, target, saturate)
    if number in SUB_BYTE:
        low, high = SUB_BYTE[number]
        whole = x.to(torch.int64)
        return ((whole - low) % (high - low + 1) + low).to(target)
    return x.to(target)


def _to_float8(x: Tensor, target: torch.dtype, saturate: bool) -> Tensor:
    values = x.to(torch.float32)
    highest = torch.finfo(target).max
    if saturate:
        values = torch.where(values.isnan(), values, values.clamp(-highest, highest))
    elif target == torch.float8_e4m3fn:
        # torch saturates here too; without saturation what rounds beyond the largest number (step 32) is no number.
        values = torch.where(values.abs() > highest + 16, torch.nan, values)
    return values.to(target).to(torch.float32)


def _to_float4(x: Tensor) -> Tensor:
    # E2M1 holds 0, 0.5, 1, 1.5, 2, 3, 4, 6: the step doubles at 2 and at 4.
    values = x.to(torch.float32).clamp(-6.0, 6.0).nan_to_num(0.0)
    size = values.abs()
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    return torch.round(values / step) * step


def computable(x: Tensor) -> Tensor:
    """x in a type that torch computes on: wide unsigned integers become int64 (bits above 63 are lost in order)."""
    return x.to(torch.int64) if x.dtype in _STORAGE_ONLY else x
