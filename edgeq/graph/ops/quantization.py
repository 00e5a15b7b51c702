"""Quantization ops themselves, so that a quantized model of any tool runs, is inspected and is quantized anew.

Integer accumulation is exact: products of 8-bit codes are summed in float64, which holds integers up to 2^53.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgeq.errors import UnsupportedOpError
from edgeq.graph.ops.convolution import conv
from edgeq.graph.ops.op import Op
from edgeq.graph.ops.types import SUB_BYTE, convert, torch_type

_FLOAT8_NUMBERS = (17, 18, 19, 20, 23)
_UINT8 = 2


def quantize_linear(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
    input_types: tuple[int, ...] = (),
) -> Tensor:
    """saturate(round(x / scale) + zero point), ties to even; scale per tensor, per axis or per block."""
    number = _code_type(zero_point, output_dtype, input_types)
    steps = x / _broadcast(scale, x, axis, block_size).to(x.dtype)
    if number in _FLOAT8_NUMBERS:
        return convert(steps, number, bool(saturate))
    codes = torch.round(steps)
    if zero_point is not None:
        codes = codes + _broadcast(zero_point, x, axis, block_size).to(codes.dtype)
    return saturated(codes, number)


def _code_type(zero_point: Tensor | None, output_dtype: int, input_types: tuple[int, ...]) -> int:
    """ONNX number of the result's type: the attribute, else the zero point's, else uint8."""
    if output_dtype:
        return output_dtype
    if zero_point is None:
        return _UINT8
    declared = input_types[2] if len(input_types) > 2 else 0
    if declared:
        return declared
    held = [number for number in (2, 3, 4, 5, 6) if torch_type(number) == zero_point.dtype]
    if not held:
        raise UnsupportedOpError(f"QuantizeLinear to {zero_point.dtype} is not executed; use an integer zero point")
    return held[0]


def saturated(codes: Tensor, number: int) -> Tensor:
    """Whole numbers held in floats as an ONNX integer type, limited to its range."""
    target = torch_type(number)
    low, high = SUB_BYTE[number] if number in SUB_BYTE else (torch.iinfo(target).min, torch.iinfo(target).max)
    return codes.clamp(low, high).to(target)


def dequantize_linear(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Tensor:
    """(x - zero point) scale; scale per tensor, per axis or per block."""
    factor = _broadcast(scale, x, axis, block_size)
    if x.is_floating_point():
        return x.to(factor.dtype) * factor
    codes = x.to(torch.int32)
    if zero_point is not None:
        codes = codes - _broadcast(zero_point, x, axis, block_size).to(torch.int32)
    result = codes.to(factor.dtype) * factor
    return result.to(torch_type(output_dtype)) if output_dtype else result


def _broadcast(parameter: Tensor, x: Tensor, axis: int, block_size: int) -> Tensor:
    """A scale or zero point in a shape that broadcasts to x."""
    if parameter.dim() == 0 or parameter.numel() == 1:
        return parameter.reshape(())
    if parameter.dim() == 1:
        shape = [1] * x.dim()
        shape[axis] = -1
        return parameter.reshape(shape)
    size = block_size or -(-x.shape[axis] // parameter.shape[axis])
    return parameter.repeat_interleave(size, axis).narrow(axis, 0, x.shape[axis])


def dynamic_quantize_linear(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """uint8 codes, scale and zero point from the tensor's own range, widened to hold 0."""
    low, high = x.min().clamp(max=0.0), x.max().clamp(min=0.0)
    scale = (high - low) / 255
    # A tensor of zeros has no range: any scale holds it.
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero_point = torch.round((0 - low / scale).clamp(0, 255)).to(torch.uint8)
    return quantize_linear(x, scale, zero_point, input_types=(1, 1, _UINT8)), scale, zero_point


def conv_integer(
    x: Tensor,
    weight: Tensor,
    x_zero_point: Tensor | None = None,
    weight_zero_point: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Convolution of integer codes less their zero points, in int32; padding is the zero point."""
    return conv(
        _centered(x, x_zero_point),
        _centered(weight, _per_row(weight_zero_point, weight)),
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        pads=pads,
        strides=strides,
    ).to(torch.int32)


def matmul_integer(
    a: Tensor, b: Tensor, a_zero_point: Tensor | None = None, b_zero_point: Tensor | None = None
) -> Tensor:
    """Matrix product of integer codes less their zero points, in int32."""
    if a_zero_point is not None and a_zero_point.dim() == 1 and a_zero_point.numel() > 1:
        a_zero_point = a_zero_point.unsqueeze(-1)
    return torch.matmul(_centered(a, a_zero_point), _centered(b, b_zero_point)).to(torch.int32)


def _centered(codes: Tensor, zero_point: Tensor | None) -> Tensor:
    wide = codes.to(torch.float64)
    return wide if zero_point is None else wide - zero_point.to(torch.float64)


def _per_row(parameter: Tensor | None, weight: Tensor) -> Tensor | None:
    if parameter is None or parameter.numel() == 1:
        return parameter
    return parameter.reshape(-1, *(1,) * (weight.dim() - 1))


def requantized(total: Tensor, factor: Tensor, zero_point: Tensor) -> Tensor:
    """An exact integer sum times a float32 factor, rounded (ties to even) and saturated as the zero point's type."""
    codes = torch.round(total.to(torch.float32) * factor.to(torch.float32)) + zero_point.to(torch.float32)
    limits = torch.iinfo(zero_point.dtype)
    return codes.clamp(limits.min, limits.max).to(zero_point.dtype)


def qlinear_conv(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Convolution of codes into codes; the int32 bias has the scale of input times weight."""
    total = conv(
        _centered(x, x_zero_point),
        _centered(weight, _per_row(weight_zero_point, weight)),
        None if bias is None else bias.to(torch.float64),
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        pads=pads,
        strides=strides,
    )
    factor = x_scale * weight_scale / y_scale
    if factor.numel() > 1:
        factor = factor.reshape(-1, *(1,) * (x.dim() - 2))
    return requantized(total, factor, y_zero_point)


def qlinear_matmul(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
) -> Tensor:
    """Matrix product of codes into codes."""
    rows = [p.unsqueeze(-1) if p.dim() == 1 and p.numel() > 1 else p for p in (a_scale, a_zero_point)]
    total = torch.matmul(_centered(a, rows[1]), _centered(b, b_zero_point))
    return requantized(total, rows[0] * b_scale / y_scale, y_zero_point)


OPS = {
    ("", "ConvInteger"): Op(conv_integer),
    ("", "DequantizeLinear"): Op(dequantize_linear),
    ("", "DynamicQuantizeLinear"): Op(dynamic_quantize_linear),
    ("", "MatMulInteger"): Op(matmul_integer),
    ("", "QLinearConv"): Op(qlinear_conv),
    ("", "QLinearMatMul"): Op(qlinear_matmul),
    ("", "QuantizeLinear"): Op(quantize_linear),
    ("com.microsoft", "DequantizeLinear"): Op(dequantize_linear),
    ("com.microsoft", "QuantizeLinear"): Op(quantize_linear),
}
