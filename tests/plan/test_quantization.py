"""The grid against the ONNX and LiteRT quantization specifications, written anew in exact arithmetic."""

from fractions import Fraction

import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgeq.errors import PlanError
from edgeq.plan.quantization import Quantization, QuantizedConstant, affine_from_range, per_tensor

BITS = st.sampled_from([2, 3, 4, 5, 6, 7, 8, 16])
REAL = st.floats(-1e6, 1e6, width=32)
SCALE = st.floats(2.0**-14, 2.0**10, width=32)


def exact(real: np.ndarray, scale: np.float32, zero_point: int, qmin: int, qmax: int) -> list[int]:
    """clip(round_half_even(float32(x / scale)) + zero point): the quotient in float32, the rest exactly."""
    with np.errstate(over="ignore"):
        quotients = [float(np.float32(value) / scale) for value in real.tolist()]
    rounded = [round(Fraction(q)) if np.isfinite(q) else int(np.copysign(10**6, q)) for q in quotients]
    return [max(qmin, min(qmax, code + zero_point)) for code in rounded]


@given(st.lists(REAL, min_size=1, max_size=30), REAL, REAL, BITS, st.booleans())
@example([17.0, -17.0, 0.0], 0.0, 3e-33, 16, False)
def test_quantize_is_the_specifications(
    values: list[float], low: float, high: float, bits: int, symmetric: bool
) -> None:
    grid = affine_from_range(min(low, high), max(low, high), bits, symmetric=symmetric)
    real = np.array(values, np.float32)
    codes = grid.quantize(real)
    assert codes.dtype == np.int64
    assert codes.tolist() == exact(real, np.float32(grid.scale), int(grid.zero_point), grid.qmin, grid.qmax)


@given(REAL, REAL, BITS, st.booleans())
def test_a_grid_covers_its_range_and_holds_zero(low: float, high: float, bits: int, symmetric: bool) -> None:
    low, high = min(low, high), max(low, high)
    grid = affine_from_range(low, high, bits, symmetric=symmetric)
    assert grid.dequantize(np.array(int(grid.zero_point))) == 0.0
    edges = grid.dequantize(np.array([grid.qmin, grid.qmax])).astype(np.float64)
    slack = float(grid.scale) * 0.5001 + 1e-6 * max(abs(low), abs(high))  # the zero point is rounded to a code
    assert edges[0] <= min(low, 0) + slack
    assert edges[1] >= max(high, 0) - slack
    if symmetric:
        assert int(grid.zero_point) == 0
        assert grid.qmin == -(2 ** (bits - 1))


@given(st.integers(-128, 127), SCALE, st.integers(-128, 127))
def test_codes_survive_the_way_to_real_numbers_and_back(code: int, scale: float, zero_point: int) -> None:
    grid = per_tensor(scale, zero_point)
    assert grid.quantize(grid.dequantize(np.array([code]))).tolist() == [code]


@given(st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=20), SCALE, st.integers(-128, 127))
def test_the_onnx_reference_gives_the_same_codes(values: list[float], scale: float, zero_point: int) -> None:
    grid, real = per_tensor(scale, zero_point), np.array(values, np.float32)
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])
    graph = helper.make_graph(
        [node],
        "q",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [None]),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, []),
            helper.make_tensor_value_info("z", TensorProto.INT8, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.INT8, [None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    feed = {"x": real, "s": np.asarray(grid.scale), "z": np.asarray(grid.zero_point).astype(np.int8)}
    assert np.array_equal(
        ReferenceEvaluator(onnx.load_model_from_string(model.SerializeToString())).run(None, feed)[0],
        grid.quantize(real),
    )


def test_channels_have_their_own_scale() -> None:
    grid = Quantization(np.array([0.5, 0.25], np.float32), np.array([0, 3]), 8, axis=1)
    real = np.array([[[1.0, -1.0], [1.0, -1.0]]], np.float32)
    assert grid.quantize(real).tolist() == [[[2, -2], [7, -1]]]
    assert np.array_equal(grid.dequantize(grid.quantize(real)), real)


def test_a_number_stays_an_array() -> None:
    # NumPy turns arrays of rank 0 into scalars, which torch does not take.
    grid = per_tensor(0.1, 0)
    assert isinstance(grid.quantize(np.array(0.37, np.float32)), np.ndarray)
    assert isinstance(grid.dequantize(np.array(4)), np.ndarray)


@pytest.mark.parametrize(
    ("bits", "narrow", "limits"), [(8, False, (-128, 127)), (8, True, (-127, 127)), (2, True, (-1, 1))]
)
def test_the_limits_of_codes(bits: int, narrow: bool, limits: tuple[int, int]) -> None:
    grid = per_tensor(1.0, 0, bits, narrow=narrow)
    assert (grid.qmin, grid.qmax) == limits


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (-0.0, 1e-45), (0.0, 1e-40)])
def test_a_range_without_extent_has_a_usable_scale(low: float, high: float) -> None:
    grid = affine_from_range(low, high, 8)
    assert float(grid.scale) == pytest.approx(1 / 127)


@pytest.mark.parametrize(
    ("scale", "zero_point", "bits", "axis", "said"),
    [
        (np.array(np.nan, np.float32), np.array(0), 8, None, "not finite and positive"),
        (np.array(0.0, np.float32), np.array(0), 8, None, "not finite and positive"),
        (np.array(-1.0, np.float32), np.array(0), 8, None, "not finite and positive"),
        (np.array(np.inf, np.float32), np.array(0), 8, None, "not finite and positive"),
        (np.array(1.0, np.float32), np.array(128), 8, None, r"outside \[-128, 127\]"),
        (np.array(1.0, np.float64), np.array(0), 8, None, "float32"),
        (np.array(1.0, np.float32), np.array(0, np.int8), 8, None, "int64"),
        (np.ones(3, np.float32), np.zeros(3, np.int64), 8, None, "axis None"),
        (np.array(1.0, np.float32), np.array(0), 8, 0, "axis 0"),
        (np.ones(3, np.float32), np.zeros(2, np.int64), 8, 0, "do not fit"),
    ],
)
def test_a_grid_that_cannot_be(
    scale: np.ndarray, zero_point: np.ndarray, bits: int, axis: int | None, said: str
) -> None:
    with pytest.raises(PlanError, match=said):
        Quantization(scale, zero_point, bits, axis)


@pytest.mark.parametrize(("low", "high"), [(np.nan, 1.0), (0.0, np.inf), (-np.inf, 0.0)])
def test_a_range_that_is_not_finite(low: float, high: float) -> None:
    with pytest.raises(PlanError, match="not finite"):
        affine_from_range(low, high, 8)


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (np.array([1.0, 2.0]), "integers"),
        (np.array([-128, 0]), r"outside \[-127, 127\]"),
        (np.array([1, 2, 3]), "2 scales for 3 channels"),
    ],
)
def test_codes_that_cannot_be(codes: np.ndarray, said: str) -> None:
    grid = Quantization(np.ones(2, np.float32), np.zeros(2, np.int64), 8, 0, narrow=True)
    with pytest.raises(PlanError, match=said):
        QuantizedConstant(codes, grid)


def test_the_same_grid() -> None:
    grid = per_tensor(0.1, 3)
    assert grid.same_grid(per_tensor(0.1, 3))
    for other in (per_tensor(0.2, 3), per_tensor(0.1, 2), per_tensor(0.1, 3, 7)):
        assert not grid.same_grid(other)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_large_constant_is_quantized_piece_by_piece_to_the_same_codes(
    axis: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = np.random.default_rng(0).normal(size=(7, 5, 3)).astype(np.float32)
    scale = np.array(0.02, np.float32) if axis is None else np.linspace(0.01, 0.03, real.shape[axis], dtype=np.float32)
    grid = Quantization(scale, np.zeros(scale.shape, np.int64), 8, axis, narrow=True)
    whole = grid.quantize_constant(real)
    monkeypatch.setattr("edgeq.plan.quantization._PIECE", 20)
    pieces = grid.quantize_constant(real)
    np.testing.assert_array_equal(pieces.codes, whole.codes)
    np.testing.assert_array_equal(whole.codes, grid.quantize(real))
    assert pieces.codes.dtype == whole.codes.dtype == np.int8
