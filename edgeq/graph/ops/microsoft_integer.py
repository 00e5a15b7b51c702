"""Integer ops of ONNX Runtime's own domain: codes in, codes out, with the scales as inputs."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from edgeq.errors import UnsupportedOpError
from edgeq.graph.ops.op import Op
from edgeq.graph.ops.pooling import average_pool
from edgeq.graph.ops.quantization import dynamic_quantize_linear, requantized
from edgeq.graph.ops.softmax import softmax

_DOMAIN = "com.microsoft"


def _real(codes: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
    whole = codes.to(torch.int32) if zero_point is None else codes.to(torch.int32) - zero_point.to(torch.int32)
    return whole.to(scale.dtype) * scale


def _codes(real: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    limits = torch.iinfo(zero_point.dtype)
    codes = torch.round(real / scale) + zero_point.to(real.dtype)
    return codes.clamp(limits.min, limits.max).to(zero_point.dtype)


def _zero_point(given: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros((), dtype=like.dtype, device=like.device) if given is None else given


def qlinear_add(
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor | None,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
) -> Tensor:
    """Sum of two tensors of codes."""
    return _codes(_real(a, a_scale, a_zero) + _real(b, b_scale, b_zero), y_scale, _zero_point(y_zero, a))


def qlinear_mul(
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor | None,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
) -> Tensor:
    """Product of two tensors of codes."""
    return _codes(_real(a, a_scale, a_zero) * _real(b, b_scale, b_zero), y_scale, _zero_point(y_zero, a))


def qlinear_sigmoid(
    x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None
) -> Tensor:
    """Sigmoid of codes."""
    return _codes(torch.sigmoid(_real(x, x_scale, x_zero)), y_scale, _zero_point(y_zero, x))


def qlinear_leaky_relu(
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
    *,
    alpha: float = 0.01,
) -> Tensor:
    """Leaky ReLU of codes."""
    return _codes(functional.leaky_relu(_real(x, x_scale, x_zero), alpha), y_scale, _zero_point(y_zero, x))


def qlinear_softmax(
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
    *,
    axis: int = -1,
    opset: int,
) -> Tensor:
    """Softmax of codes, in the meaning of that opset."""
    return _codes(softmax(_real(x, x_scale, x_zero), axis=axis, opset=opset), y_scale, _zero_point(y_zero, x))


def qlinear_global_average_pool(
    x: Tensor, x_scale: Tensor, x_zero: Tensor, y_scale: Tensor, y_zero: Tensor, *, channels_last: int = 0
) -> Tensor:
    """Mean of codes over the spatial axes."""
    axes = tuple(range(1, x.dim() - 1)) if channels_last else tuple(range(2, x.dim()))
    return _codes(_real(x, x_scale, x_zero).mean(axes, keepdim=True), y_scale, y_zero)


def qlinear_average_pool(
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
    count_include_pad: int = 0,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Average pooling of codes."""
    real = _real(x, x_scale, x_zero)
    pooled = average_pool(
        real.movedim(-1, 1) if channels_last else real,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    return _codes(pooled.movedim(1, -1) if channels_last else pooled, y_scale, _zero_point(y_zero, x))


def qlinear_concat(y_scale: Tensor, y_zero: Tensor, *triples: Tensor, axis: int) -> Tensor:
    """Concatenation of tensors of codes, each followed by its scale and zero point."""
    parts = [_codes(_real(*triples[k : k + 3]), y_scale, y_zero) for k in range(0, len(triples), 3)]
    return torch.cat(parts, axis)


def qgemm(
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    c: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero: Tensor | None = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """Gemm of codes; codes out if an output scale is given, else floats. C is int32 in the scale of the product."""
    left, right = a.to(torch.float64) - a_zero.to(torch.float64), b.to(torch.float64)
    # Per-column parameters belong to B after its transposition.
    right = (right.t() if transB else right) - b_zero.to(torch.float64)
    total = (left.t() if transA else left) @ right
    total = total if c is None else total + c.to(torch.float64)
    factor = a_scale * b_scale * alpha
    if y_scale is None or y_zero is None:
        return total.to(torch.float32) * factor
    return requantized(total, factor / y_scale, y_zero)


def matmul_integer_to_float(
    a: Tensor,
    b: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    a_zero: Tensor | None = None,
    b_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Matrix product of codes, scaled to floats."""
    left, right = (
        codes.to(torch.float64) if zero is None else codes.to(torch.float64) - zero.to(torch.float64)
        for codes, zero in ((a, a_zero), (b, b_zero))
    )
    y = torch.matmul(left, right).to(torch.float32) * (a_scale * b_scale)
    return y if bias is None else y + bias


def dynamic_quantize_matmul(
    a: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Matrix product of floats, quantized on the fly, with codes."""
    codes, scale, zero_point = dynamic_quantize_linear(a)
    return matmul_integer_to_float(codes, b, scale, b_scale, zero_point, b_zero, bias)


def matmul_few_bits(
    a: Tensor,
    packed: Tensor,
    scales: Tensor,
    zero_points: Tensor | None = None,
    group: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    K: int,
    N: int,
    accuracy_level: int = 0,
    bits: int = 4,
    block_size: int,
    weight_prepacked: int = 0,
) -> Tensor:
    """A times a weight (N, K) of 2, 4 or 8 bits in blocks along K, packed from the lowest bits up."""
    if group is not None or weight_prepacked or bits not in (2, 4, 8):
        raise UnsupportedOpError(f"MatMulNBits with {bits} bits, g_idx or prepacked weights is not executed")
    blocks = -(-K // block_size)
    codes = _unpacked(packed.reshape(N, blocks, -1), bits)[..., :block_size].to(a.dtype)
    if zero_points is None:
        zero = torch.full((), float(1 << (bits - 1)), dtype=a.dtype, device=a.device)
    elif zero_points.is_floating_point():
        zero = zero_points.reshape(N, blocks, 1).to(a.dtype)
    else:
        zero = _unpacked(zero_points.reshape(N, -1), bits)[:, :blocks].reshape(N, blocks, 1).to(a.dtype)
    weight = ((codes - zero) * scales.reshape(N, blocks, 1)).reshape(N, -1)[:, :K]
    return functional.linear(a, weight, bias)


def _unpacked(values: Tensor, bits: int) -> Tensor:
    shifts = torch.arange(0, 8, bits, device=values.device)
    return ((values.to(torch.int64).unsqueeze(-1) >> shifts) & ((1 << bits) - 1)).flatten(-2)


OPS = {
    (_DOMAIN, "DynamicQuantizeMatMul"): Op(dynamic_quantize_matmul),
    (_DOMAIN, "MatMulIntegerToFloat"): Op(matmul_integer_to_float),
    (_DOMAIN, "MatMulNBits"): Op(matmul_few_bits),
    (_DOMAIN, "QGemm"): Op(qgemm),
    (_DOMAIN, "QLinearAdd"): Op(qlinear_add),
    (_DOMAIN, "QLinearAveragePool"): Op(qlinear_average_pool),
    (_DOMAIN, "QLinearConcat"): Op(qlinear_concat),
    (_DOMAIN, "QLinearGlobalAveragePool"): Op(qlinear_global_average_pool),
    (_DOMAIN, "QLinearLeakyRelu"): Op(qlinear_leaky_relu),
    (_DOMAIN, "QLinearMul"): Op(qlinear_mul),
    (_DOMAIN, "QLinearSigmoid"): Op(qlinear_sigmoid),
    (_DOMAIN, "QLinearSoftmax"): Op(qlinear_softmax),
}
