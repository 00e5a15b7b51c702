"""Round to nearest against the ONNX quantization spec in plain NumPy, and the arithmetic traps of int32 biases."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import Ranges, observe
from edgeq.errors import PlanError
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan, Skeleton
from edgeq.plan.quantization import LARGEST_BIAS
from edgeq.plan.validate import validate

from .networks import build, convolutions, images, skeleton


def ranges_of(skeleton_: Skeleton, low: float = -1.0, high: float = 1.0) -> Ranges:
    groups = set(skeleton_.groups.values())
    return Ranges(dict.fromkeys(groups, (low, high)), dict.fromkeys(groups, (low, high)), 1, "test")


def plan_of(graph: Graph, bits: str = "w8a8", low: float = -1.0, high: float = 1.0, **options: bool) -> Plan:
    made = skeleton(graph, bits, **options)
    plan = nearest(graph, made, ranges_of(made, low, high))
    validate(graph, plan)
    return plan


def linear(weight: np.ndarray, bias: np.ndarray | None = None, **attributes: int) -> Graph:
    constants = {"w": weight.astype(np.float32)} | ({} if bias is None else {"b": bias.astype(np.float32)})
    inputs = ["x", "w"] + ([] if bias is None else ["b"])
    features = weight.shape[1 if attributes.get("transB") else 0]
    return build([helper.make_node("Gemm", inputs, ["y"], "gemm", **attributes)], ["batch", features], constants)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_are_the_specs(bits: int, per_channel: bool) -> None:
    graph = convolutions()
    plan = plan_of(graph, f"w{bits}a8", per_channel=per_channel)
    qmax = 2 ** (bits - 1) - 1
    for unit in plan.units:
        if unit.weight is None:
            continue
        real = graph.constant(unit.weight)
        assert real is not None
        axes = tuple(range(1, real.ndim)) if per_channel else None
        scale = (np.abs(real).max(axis=axes, keepdims=True).astype(np.float64) / qmax).astype(np.float32)
        expected = np.clip(np.rint(real / scale), -qmax, qmax)
        constant = plan.weights[unit.weight]
        np.testing.assert_array_equal(constant.codes, expected)
        assert constant.quantization.narrow
        assert constant.quantization.axis == (0 if per_channel else None)
        # Nearest: no error exceeds half a step (and one float32 rounding).
        assert (np.abs(constant.real - real) <= scale * 0.5 * (1 + 1e-5)).all()


def test_biases_are_int32_at_input_scale_times_weight_scale() -> None:
    graph = convolutions()
    plan = plan_of(graph)
    unit = next(u for u in plan.units if u.name == "depthwise")
    bias, weight = plan.biases[unit.name], plan.weights[unit.weight or ""]
    scale = np.float32(plan.activations[unit.inputs[0]].scale) * weight.quantization.scale
    np.testing.assert_array_equal(bias.quantization.scale, scale)
    real = graph.constant("b2")
    assert real is not None
    np.testing.assert_array_equal(bias.codes, np.rint(real.astype(np.float64) / scale))


@pytest.mark.parametrize(("attributes", "axis"), [({"transB": 1}, 0), ({}, 1)])
def test_gemm_scales_follow_transb(attributes: dict[str, int], axis: int) -> None:
    weight = np.random.default_rng(0).normal(size=(5, 7))
    plan = plan_of(linear(weight, **attributes))
    assert plan.weights["w"].quantization.axis == axis
    assert plan.weights["w"].quantization.scale.shape == (weight.shape[axis],)
    assert plan.biases["gemm"].codes.shape == (weight.shape[axis],)
    assert not plan.biases["gemm"].codes.any()


def test_matmul_scales_along_its_last_axis() -> None:
    g = np.random.default_rng(0)
    constants = {"w": g.normal(size=(6, 5)).astype(np.float32), "b": g.normal(size=5).astype(np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"], "mm"), helper.make_node("Add", ["m", "b"], ["y"], "add")]
    plan = plan_of(build(nodes, ["batch", 3, 6], constants))
    assert plan.weights["w"].quantization.axis == 1
    np.testing.assert_allclose(plan.biases["mm"].real, constants["b"], atol=1e-3)


@pytest.mark.parametrize("groups", [1, 2])
def test_grouped_transposed_convolutions_have_one_scale(groups: int) -> None:
    g = np.random.default_rng(0)
    constants = {
        "w": g.normal(size=(4, 6 // groups, 3, 3)).astype(np.float32), "b": g.normal(size=6).astype(np.float32)
    }  # fmt: skip
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], "up", group=groups)
    plan = plan_of(build([node], ["batch", 4, 5, 5], constants))
    assert plan.weights["w"].quantization.axis == (1 if groups == 1 else None)
    assert plan.biases["up"].quantization.scale.shape == (6,)
    np.testing.assert_allclose(plan.biases["up"].real, constants["b"], atol=1e-3)


def test_a_dead_channel_gets_its_neighbours_scale() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 6))
    weight[2] = 0.0
    scale = plan_of(linear(weight, transB=1)).weights["w"].quantization.scale
    assert scale[2] == np.median(np.delete(scale, 2))
    dead = plan_of(linear(np.zeros((4, 6)), transB=1)).weights["w"]
    np.testing.assert_array_equal(dead.quantization.scale, np.float32(1 / 127))


def test_a_faint_channel_does_not_get_a_vanishing_scale() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 6))
    weight[1] *= 1e-12
    scale = plan_of(linear(weight, transB=1)).weights["w"].quantization.scale
    assert scale.min() >= scale.max() * 2.0**-21


@given(
    exponent=st.integers(-9, 3),
    bias=st.floats(-1e6, 1e6, width=32),
    high=st.floats(0.0009765625, 1024.0, width=32),
)
@settings(max_examples=60, deadline=None)
def test_a_bias_never_overflows_and_is_never_lost(exponent: int, bias: float, high: float) -> None:
    weight = np.random.default_rng(0).normal(size=(3, 4)) * 10.0**exponent
    plan = plan_of(linear(weight, np.array([bias, 0.0, 1.0]), transB=1), low=0.0, high=high)
    codes = plan.biases["gemm"]
    assert np.abs(codes.codes).max() <= LARGEST_BIAS
    # Half a step of its own grid, and a float32 rounding of the product.
    tolerance = codes.quantization.scale[0] * 0.5 + abs(bias) * 1e-6
    assert abs(float(codes.real[0]) - bias) <= tolerance


def test_a_group_shares_one_grid_and_sixteen_bits_are_symmetric() -> None:
    graph = convolutions()
    plan = plan_of(graph, "w8a16", low=-1.0, high=3.0)
    for value, group in plan.skeleton.groups.items():
        assert plan.activations[value].same_grid(plan.activations[group])
        assert plan.activations[value].zero_point == 0
        assert plan.activations[value].qmin == -32768


def test_weight_only_units_have_codes_and_no_bias() -> None:
    graph = convolutions()
    plan = plan_of(graph, "w4")
    assert set(plan.weights) == {"w1", "w2", "w3", "w4"}
    assert not plan.biases
    assert not plan.activations


def test_units_that_share_a_weight_must_agree_on_its_bits() -> None:
    from edgeq.plan.bits import Bits
    from edgeq.plan.rules import Request, decide

    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w"], ["y"], "second"),
    ]
    graph = build(nodes, ["batch", 4], {"w": np.eye(4, dtype=np.float32)})
    plan = plan_of(graph)
    assert len(plan.weights) == 1
    assert set(plan.biases) == {"first", "second"}
    mixed = decide(graph, Request(Bits(8, 8), (("second", Bits(4, 8)),)))
    with pytest.raises(PlanError, match="shared by first, second"):
        nearest(graph, mixed, ranges_of(mixed))


def test_a_constant_operand_gets_its_own_grid() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], "gemm"),
        helper.make_node("Mul", ["h", "k"], ["y"], "mul"),
    ]
    factor = np.array([0.5, 2.0, -1.0, 0.0], np.float32)
    plan = plan_of(build(nodes, ["batch", 4], {"w": np.eye(4, dtype=np.float32), "k": factor}))
    np.testing.assert_allclose(plan.constants["k"].real, factor, atol=3 / 255 / 2 + 1e-6)


def test_the_whole_is_deterministic_and_close_to_float() -> None:
    from edgeq.simulate import Simulation

    graph = convolutions()
    module, made = to_torch(graph), skeleton(graph)
    x = torch.from_numpy(images(64))
    first, second = (nearest(graph, made, observe(module, [(x,)], made)) for _ in range(2))
    for value in first.weights:
        np.testing.assert_array_equal(first.weights[value].codes, second.weights[value].codes)
    with torch.no_grad():
        real, quantized = module(x), Simulation(graph, first)(x)
    assert isinstance(quantized, torch.Tensor)
    noise = float((real - quantized).pow(2).mean() / real.var())
    assert noise < 1e-3
