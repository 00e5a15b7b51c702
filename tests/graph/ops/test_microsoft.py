"""Ops that ONNX Runtime's optimizers write equal ONNX Runtime's."""

from typing import Any

import numpy as np
import pytest

DOMAIN = "com.microsoft"


def _normal(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


# ONNX Runtime approximates tanh and erf by polynomials: 1e-6 of absolute error in float32.
def test_gelu_family(agrees: Any) -> None:
    x, bias = _normal(2, 3, 8), _normal(8)
    agrees("Gelu", [x], domain=DOMAIN)
    agrees("QuickGelu", [x], domain=DOMAIN, alpha=1.7)
    agrees("FastGelu", [x, bias], domain=DOMAIN)
    agrees("FastGelu", [x], domain=DOMAIN)
    agrees("BiasGelu", [x, bias], domain=DOMAIN)


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("right", [0, 1])
def test_fused_matmul(left: int, right: int, agrees: Any) -> None:
    a = _normal(2, 5, 4) if left else _normal(2, 4, 5)
    b = _normal(2, 3, 5) if right else _normal(2, 5, 3)
    agrees("FusedMatMul", [a, b], domain=DOMAIN, transA=left, transB=right, alpha=0.5)


@pytest.mark.parametrize("activation", ["Relu", "Tanh", "Sigmoid", "LeakyRelu", "Clip"])
def test_fused_convolution(activation: str, agrees: Any) -> None:
    parameters = {"LeakyRelu": [0.2], "Clip": [-0.5, 0.5]}.get(activation)
    extra = {"activation_params": parameters} if parameters else {}
    weight = _normal(3, 2, 3, 3)
    agrees("FusedConv", [_normal(1, 2, 5, 5), weight, _normal(3)], domain=DOMAIN, activation=activation, **extra)


def test_fused_gemm(agrees: Any) -> None:
    inputs = [_normal(4, 5), _normal(3, 5, 1)[:, :, 0], _normal(3)]
    agrees("FusedGemm", inputs, domain=DOMAIN, activation="Relu", transB=1)


def test_skip_normalizations(agrees: Any) -> None:
    x, skip, scale, shift, bias = _normal(2, 3, 8), _normal(2, 3, 8) * 2, _normal(8), _normal(8) + 1, _normal(8) - 1
    agrees("SkipLayerNormalization", [x, skip, scale, shift, bias], domain=DOMAIN, epsilon=1e-5)
    agrees("SkipSimplifiedLayerNormalization", [x, skip, scale, bias], domain=DOMAIN, epsilon=1e-5)


def test_embedding_with_normalization(agrees: Any) -> None:
    tokens = np.array([[1, 2, 3], [4, 0, 2]], np.int32)
    segments = np.array([[0, 0, 1], [0, 1, 1]], np.int32)
    mask = np.array([[1, 1, 1], [1, 1, 0]], np.int32)
    tables = [_normal(5, 8), _normal(3, 8), _normal(2, 8)]
    inputs = [tokens, segments, *tables, _normal(8), _normal(8) + 1, mask]
    agrees("EmbedLayerNormalization", inputs, domain=DOMAIN, outputs=2, epsilon=1e-5)


@pytest.mark.parametrize("kind", ["none", "keys", "lengths"])
@pytest.mark.parametrize("unidirectional", [0, 1])
def test_packed_attention(kind: str, unidirectional: int, agrees: Any) -> None:
    mask = {
        "none": None,
        "keys": np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.int32),
        "lengths": np.array([4, 2], np.int32),
    }[kind]
    inputs = [_normal(2, 4, 8), _normal(8, 24) * 0.3, _normal(24), mask]
    while inputs[-1] is None:
        inputs.pop()
    agrees("Attention", inputs, domain=DOMAIN, num_heads=2, unidirectional=unidirectional)


def test_multi_head_attention(agrees: Any) -> None:
    query, key, value = _normal(2, 3, 8), _normal(2, 5, 8) * 0.5, _normal(2, 5, 8) + 1
    agrees("MultiHeadAttention", [query, key, value], domain=DOMAIN, num_heads=2)
    agrees("MultiHeadAttention", [query, key, value, _normal(24)], domain=DOMAIN, num_heads=4)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("first", [True, False])
def test_rotary_embedding(interleaved: int, first: bool, agrees: Any) -> None:
    angles = _normal(10, 4)
    positions = np.array([2]) if first else np.array([[0, 1, 2], [5, 6, 7]])
    inputs = [_normal(2, 3, 16), positions, np.cos(angles), np.sin(angles)]
    agrees("RotaryEmbedding", inputs, domain=DOMAIN, interleaved=interleaved)


def test_simplified_layer_normalization(agrees: Any) -> None:
    agrees("SimplifiedLayerNormalization", [_normal(2, 3, 8), _normal(8)], axis=-1, epsilon=1e-5)
