"""Elementwise ops and normalizations equal ONNX Runtime's, in old and new forms."""

from typing import Any

import numpy as np
import pytest

_UNARY = (
    *("Abs", "Acos", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "Neg", "Round"),
    *("Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Tan", "Tanh", "Relu", "HardSwish"),
    *("Elu", "Selu", "Celu", "LeakyRelu", "HardSigmoid", "ThresholdedRelu", "Shrink", "Mish", "Gelu"),
)


def _normal(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("op", _UNARY)
def test_unary(op: str, agrees: Any) -> None:
    agrees(op, [np.linspace(-0.99, 0.99, 200, dtype=np.float32)], opset=20)


@pytest.mark.parametrize("op", ["Sigmoid", "Tanh", "Softplus", "Gelu", "Mish", "HardSwish", "Erf", "Elu", "Exp"])
def test_unary_far_from_zero(op: str, agrees: Any) -> None:
    agrees(op, [np.linspace(-60, 60, 200, dtype=np.float32)], opset=20)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Equal", "Less", "GreaterOrEqual"])
@pytest.mark.parametrize("kind", [np.float32, np.int32])
@pytest.mark.parametrize("shapes", [((2, 3, 4), (4,)), ((1, 3, 1), (2, 1, 4)), ((), (2, 2))])
def test_binary_with_broadcasting(op: str, kind: type, shapes: tuple[Any, Any], agrees: Any) -> None:
    random = np.random.default_rng(0)
    a, b = (np.asarray(random.integers(1, 6, shape)).astype(kind) for shape in shapes)
    agrees(op, [a, b])
    agrees(op, [a, b], constant={1})


@pytest.mark.parametrize("sign", [-1, 1])
def test_integer_division_and_remainders(sign: int, agrees: Any) -> None:
    a, b = np.arange(-7, 8), np.full(15, 3 * sign)
    agrees("Div", [a, b])
    agrees("Mod", [a, b])
    agrees("Mod", [a, b], fmod=1)
    agrees("Mod", [a.astype(np.float32), b.astype(np.float32)], fmod=1)


@pytest.mark.parametrize("opset", [6, 11, 13])
def test_clip_in_both_forms(opset: int, agrees: Any) -> None:
    x = _normal(3, 4)
    if opset < 11:
        agrees("Clip", [x], opset=opset, min=-0.5, max=0.5)
        agrees("Clip", [x], opset=opset, max=0.5)
        return
    low, high = np.array(-0.5, np.float32), np.array(0.5, np.float32)
    agrees("Clip", [x, low, high], opset=opset, constant={1, 2})
    agrees("Clip", [x, None, high], opset=opset)
    agrees("Clip", [x, high, low], opset=opset)


def test_normalizations(agrees: Any) -> None:
    x, scale, bias = _normal(2, 6, 4, 4), _normal(6), _normal(6) + 1
    agrees("InstanceNormalization", [x, scale, bias])
    agrees("BatchNormalization", [x, scale, bias, _normal(6), np.abs(_normal(6)) + 0.1], constant={1, 2, 3, 4})
    agrees("GroupNormalization", [x, scale, bias], opset=21, num_groups=3)
    agrees("LRN", [x], size=3, alpha=0.1, beta=0.7, bias=2.0)
    agrees("LRN", [x], size=5)
    agrees("MeanVarianceNormalization", [x], opset=13)
    for p in (1, 2):
        agrees("LpNormalization", [x], axis=1, p=p)
    for axis in (-1, 1):
        shape = x.shape[axis:]
        agrees("LayerNormalization", [x, _normal(*shape), _normal(*shape)], axis=axis)
        agrees("LayerNormalization", [x, _normal(*shape)], axis=axis)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("shape", [(), (3,), (4, 1), (4, 3)])
def test_gemm(alpha: float, shape: tuple[int, ...], agrees: Any) -> None:
    a, b, c = _normal(5, 4), _normal(3, 5), np.asarray(_normal(*shape), np.float32)
    agrees("Gemm", [a, b, c], transA=1, transB=1, alpha=alpha, beta=2.0, constant={1, 2})
    agrees("Gemm", [a, b], transA=1, transB=1, alpha=alpha)


@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((4,), (4, 5)), ((2, 3, 4), (4,)), ((2, 1, 3, 4), (5, 4, 2))])
def test_matmul(shapes: tuple[Any, Any], agrees: Any) -> None:
    agrees("MatMul", [_normal(*shapes[0]), _normal(*shapes[1])])


@pytest.mark.parametrize(
    "equation", ["bij,bjk->bik", "bhqd,bhkd->bhqk", "ij->ji", "...ij,...jk->...ik", "ii->i", "ij, j"]
)
def test_einsum(equation: str, agrees: Any) -> None:
    ranks = [len(term.replace("...", "b").strip()) for term in equation.split("->")[0].split(",")]
    agrees("Einsum", [_normal(*[3] * rank) for rank in ranks], equation=equation)
