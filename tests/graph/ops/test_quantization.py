"""Quantization ops equal ONNX Runtime's: to the last bit where the arithmetic is integer."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

MICROSOFT = "com.microsoft"
_F = np.float32


def _codes(random: np.random.Generator, kind: type, *shape: int) -> Any:
    limits = np.iinfo(kind)
    return random.integers(limits.min, limits.max + 1, shape).astype(kind)


def _scalar(value: float, kind: type) -> Any:
    return np.array(value, kind)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_quantize_and_dequantize(kind: type, axis: int | None, agrees: Any) -> None:
    random = np.random.default_rng(0)
    shape = () if axis is None else ((3, 4)[axis],)
    scale = random.uniform(0.01, 0.1, shape).astype(_F)
    zero = random.integers(0, 20, shape).astype(kind)
    attributes = {} if axis is None else {"axis": axis}
    x = (random.standard_normal((3, 4, 5)) * 3).astype(_F)
    x[0, 0, 0], x[0, 0, 1] = 1e9, -1e9
    agrees("QuantizeLinear", [x, scale, zero], constant={1, 2}, opset=21, **attributes)
    agrees("DequantizeLinear", [_codes(random, kind, 3, 4, 5), scale, zero], constant={1, 2}, opset=21, **attributes)


def test_ties_round_to_even(agrees: Any) -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5], _F)
    agrees("QuantizeLinear", [x, _scalar(1, _F), _scalar(0, np.int8)], constant={1, 2}, opset=13)


def test_dequantize_in_blocks(agrees: Any) -> None:
    random = np.random.default_rng(0)
    scale, zero = random.uniform(0.1, 1, (2, 4)).astype(_F), random.integers(-3, 4, (2, 4)).astype(np.int8)
    inputs = [_codes(random, np.int8, 6, 4), scale, zero]
    agrees("DequantizeLinear", inputs, constant={0, 1, 2}, opset=21, axis=0, block_size=3)


def test_dynamic_quantize_linear(agrees: Any) -> None:
    for low, high in ((-3, 5), (1, 4), (-4, -1)):
        x = np.random.default_rng(0).uniform(low, high, (3, 4)).astype(_F)
        agrees("DynamicQuantizeLinear", [x], outputs=3, opset=11)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(per_channel=st.booleans(), stride=st.integers(1, 2), pad=st.integers(0, 1), seed=st.integers(0, 9))
def test_integer_convolution(per_channel: bool, stride: int, pad: int, seed: int, agrees: Any) -> None:
    random = np.random.default_rng(seed)
    x, weight = _codes(random, np.uint8, 1, 2, 6, 6), _codes(random, np.int8, 4, 2, 3, 3)
    window = {"kernel_shape": [3, 3], "strides": [stride] * 2, "pads": [pad] * 4}
    x_zero, w_zero = _scalar(7, np.uint8), np.zeros(4 if per_channel else (), np.int8)
    agrees("ConvInteger", [x, weight, x_zero, _scalar(0, np.int8)], constant={1, 2, 3}, opset=10, **window)
    scale = random.uniform(0.001, 0.01, 4 if per_channel else ()).astype(_F)
    bias = random.integers(-1000, 1000, 4).astype(np.int32)
    inputs = [x, _scalar(0.05, _F), x_zero, weight, scale, w_zero, _scalar(0.1, _F), _scalar(120, np.uint8), bias]
    agrees("QLinearConv", inputs, constant=range(1, 9), opset=10, **window)


@pytest.mark.parametrize("per_column", [False, True])
def test_integer_matrix_product(per_column: bool, agrees: Any) -> None:
    random = np.random.default_rng(0)
    a, b = _codes(random, np.uint8, 5, 8), _codes(random, np.int8, 8, 6)
    b_zero = random.integers(-5, 5, 6 if per_column else ()).astype(np.int8)
    agrees("MatMulInteger", [a, b, _scalar(9, np.uint8), b_zero], constant={1, 2, 3}, opset=10)
    b_scale = random.uniform(0.001, 0.01, 6 if per_column else ()).astype(_F)
    y = [_scalar(0.2, _F), _scalar(100, np.uint8)]
    inputs = [a, _scalar(0.05, _F), _scalar(9, np.uint8), b, b_scale, b_zero, *y]
    agrees("QLinearMatMul", inputs, constant=range(1, 8), opset=10)
    floats = [a, b, _scalar(0.05, _F), b_scale, _scalar(9, np.uint8), b_zero]
    agrees("MatMulIntegerToFloat", floats, constant={1, 3, 5}, domain=MICROSOFT)
    x = random.standard_normal((5, 8)).astype(_F)
    agrees("DynamicQuantizeMatMul", [x, b, b_scale, b_zero], constant={1, 2, 3}, domain=MICROSOFT)


def test_qgemm(agrees: Any) -> None:
    random = np.random.default_rng(0)
    a, b = _codes(random, np.uint8, 5, 8), _codes(random, np.int8, 6, 8)
    scale, zero = random.uniform(0.001, 0.01, 6).astype(_F), np.zeros(6, np.int8)
    bias = random.integers(-1000, 1000, 6).astype(np.int32)
    inputs = [a, _scalar(0.05, _F), _scalar(9, np.uint8), b, scale, zero, bias]
    agrees("QGemm", inputs, constant={3, 4, 5, 6}, domain=MICROSOFT, transB=1)
    agrees(
        "QGemm", [*inputs, _scalar(0.2, _F), _scalar(99, np.uint8)], constant={3, 4, 5, 6}, domain=MICROSOFT, transB=1
    )


# ONNX Runtime's kernels fold the scales before they round, so that a tie may fall one code apart.
@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_microsofts_elementwise_ops_of_codes(kind: type, agrees: Any) -> None:
    random = np.random.default_rng(0)
    a, b = _codes(random, kind, 2, 3, 4, 4), _codes(random, kind, 2, 3, 4, 4)
    left, right = [_scalar(0.03, _F), _scalar(3, kind)], [_scalar(0.05, _F), _scalar(5, kind)]
    y = [_scalar(0.08, _F), _scalar(10, kind)]
    agrees("QLinearAdd", [a, *left, b, *right, *y], steps=1, domain=MICROSOFT)
    agrees("QLinearMul", [a, *left, b, *right, *y], steps=1, domain=MICROSOFT)
    fixed = {1, 2, 3, 4}
    agrees("QLinearLeakyRelu", [a, *left, *y], steps=1, constant=fixed, domain=MICROSOFT, alpha=0.1)
    unit = [_scalar(1 / 256, _F), _scalar(0 if kind is np.uint8 else -128, kind)]
    agrees("QLinearSigmoid", [a, *left, *unit], steps=1, constant=fixed, domain=MICROSOFT)
    agrees(
        "QLinearSoftmax", [a, *left, *unit], steps=1, constant=fixed, domain=MICROSOFT, named={"axis": 1, "opset": 13}
    )
    agrees("QLinearGlobalAveragePool", [a, *left, *y], steps=1, constant=fixed, domain=MICROSOFT)
    agrees("QLinearAveragePool", [a, *left, *y], steps=1, constant=fixed, domain=MICROSOFT, kernel_shape=[2, 2])
    agrees("QLinearConcat", [*y, a, *left, b, *right], steps=1, constant={0, 1}, domain=MICROSOFT, axis=1)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero", [False, True])
def test_weights_of_few_bits(bits: int, zero: bool, agrees: Any) -> None:
    random = np.random.default_rng(0)
    columns, depth, block = 5, 64, 32
    packed = _codes(random, np.uint8, columns, depth // block, block * bits // 8)
    scales = random.uniform(0.01, 0.1, columns * depth // block).astype(_F)
    inputs = [random.standard_normal((3, depth)).astype(_F), packed, scales]
    if zero:
        inputs.append(_codes(random, np.uint8, columns * -(-depth // block * bits // 8)))
    attributes = {"K": depth, "N": columns, "bits": bits, "block_size": block}
    agrees("MatMulNBits", inputs, constant={1, 2, 3}, domain=MICROSOFT, **attributes)
