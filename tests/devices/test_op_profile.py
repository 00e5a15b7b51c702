"""Profiles of the real runtimes, and the sentence that follows from them."""

from dataclasses import replace

import pytest

from edgeq.devices import load_profile, open_device
from edgeq.devices.op_profile import OpProfile, OpTime, from_litert, from_onnxruntime
from edgeq.devices.speed_verdict import slower_in_integer, speed_verdict
from edgeq.errors import DeviceError
from edgeq.measurement import DeviceInfo, Interval, Latency, LatencyComparison

from . import models

CPU = DeviceInfo("p", "litert", "2.3", "x86_64", "Test CPU", ("avx2", "avx512_vnni"), 1, 1)
LATENCY = Latency(1.0, 1.1, 10, 1.0, 1)


def comparison(estimate: float, low: float, high: float) -> LatencyComparison:
    return LatencyComparison(LATENCY, LATENCY, Interval(estimate, low, high))


def profile(**milliseconds: float) -> OpProfile:
    """Ops named by kind."""
    return OpProfile(tuple(OpTime(f"{kind}_op", kind, kind, ms) for kind, ms in milliseconds.items()))  # type: ignore[arg-type]


def test_onnxruntime_names_integer_and_float_kernels() -> None:
    with open_device(load_profile("cpu-onnxruntime")) as device:
        integer = device.op_profile(device.load(models.onnx_integer()))
        floating = device.op_profile(device.load(models.onnx_float()))
    assert {op.op for op in integer.ops} == {"QuantizeLinear", "QGemm", "DequantizeLinear"}
    assert {op.op: op.kind for op in integer.ops}["QGemm"] == "integer"
    assert {op.op: op.kind for op in integer.ops}["QuantizeLinear"] == "quantize"
    assert [(op.op, op.kind) for op in floating.ops] == [("Gemm", "float")]
    assert floating.share("float") == 1
    assert integer.total_ms > 0


def test_a_trace_may_be_longer_than_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.devices.agent._LARGEST_HEADER", 1 << 13)
    with open_device(load_profile("cpu-onnxruntime")) as device:
        assert device.op_profile(device.load(models.onnx_float()), runs=100).total_ms > 0


def test_litert_looks_into_its_delegate() -> None:
    with open_device(load_profile("cpu-litert")) as device:
        integer = device.op_profile(device.load(models.tflite_integer()), runs=2000)
        floating = device.op_profile(device.load(models.tflite_float()), runs=2000)
    assert ("Fully Connected (NC, QS8, QC8W) GEMM", "integer") in [(op.op, op.kind) for op in integer.ops]
    assert "float" not in {op.kind for op in integer.ops}
    assert "float" in {op.kind for op in floating.ops}
    assert "integer" not in {op.kind for op in floating.ops}


def test_the_other_kernels_of_litert_give_no_profile() -> None:
    with open_device(load_profile("cpu-litert-reference")) as device:
        handle = device.load(models.tflite_integer())
        with pytest.raises(DeviceError, match="only LiteRT with its default delegate"):
            device.op_profile(handle)
        assert device.run(handle, {"x": models.SAMPLES})["y"].shape == (11, 5)


def test_rows_of_several_delegated_parts_are_taken_apart() -> None:
    text = (
        "==== Run Order ====\n"
        "  Delegate/Fully Connected (NC, QS8, QC8W) GEMM  0.000  0.004  0.004  75.0%  75.0%  0.000  60  [Delegate]:7\n"
        "  SOFTMAX  0.000  0.004  0.004  25.0%  100.0%  0.000  20  [Builtin]:0\n"
        "==== Top by Computation Time ====\n"
        "Timings (microseconds): count=20 first=5 curr=80000 min=1 max=9\n"
    )
    profile = from_litert(text, models.tflite_float())
    assert [(row[0], row[2]) for row in profile.by_op()] == [
        ("Fully Connected (NC, QS8, QC8W) GEMM", 3),
        ("SOFTMAX", 1),
    ]
    assert profile.by_op()[0][3] == pytest.approx(3.0)
    assert profile.total_ms == pytest.approx(4.0)


@pytest.mark.parametrize("text", ["", "[]", "nonsense"])
def test_a_profile_without_ops_is_an_error(text: str) -> None:
    with pytest.raises(DeviceError):
        from_onnxruntime(text)
    with pytest.raises(DeviceError):
        from_litert(text, models.tflite_integer())


def test_shares_and_tables() -> None:
    mixed = profile(integer=3.0, float=1.0)
    assert mixed.share("integer") == 0.75
    assert mixed.by_op()[0] == ("integer", "integer", 1, 3.0)
    assert mixed.slowest("float")[0].name == "float_op"


def test_faster_needs_the_whole_interval_below_one() -> None:
    assert speed_verdict(comparison(0.5, 0.4, 0.6), CPU).faster
    assert not speed_verdict(comparison(0.95, 0.9, 1.01), CPU).faster


@pytest.mark.parametrize(
    ("given", "because"),
    [
        (profile(integer=1, float=1), "50% of its time runs in float: float_op"),
        (
            profile(integer=1, quantize=1),
            "50% of its time goes into conversions between float and integer: quantize_op",
        ),
        (profile(integer=1, layout=1), "50% of its time goes into moving data"),
        (profile(integer=1), "the fixed cost of each op outweighs its work"),
        (None, "the fixed cost of each op outweighs its work"),
    ],
)
def test_int8_brings_nothing_because(given: OpProfile | None, because: str) -> None:
    verdict = speed_verdict(comparison(1.2, 1.1, 1.3), CPU, given)
    assert verdict.sentence.startswith(
        "int8 is slower here (1.20 times the float model's latency [1.10, 1.30]), because "
    )
    assert because in verdict.sentence


def test_timings_that_scatter_prove_nothing() -> None:
    verdict = speed_verdict(comparison(0.98, 0.8, 1.19), CPU, profile(integer=1, float=1))
    assert not verdict.faster
    assert verdict.sentence.startswith("whether int8 is faster here cannot be told (0.98 times")


def test_a_cpu_without_dot_products_is_named() -> None:
    old = replace(CPU, cpu_features=("avx2",))
    sentence = speed_verdict(comparison(1.0, 0.9, 1.1), old, profile(integer=1)).sentence
    assert sentence.startswith("int8 brings nothing here")
    assert "Test CPU has no instructions for 8-bit products" in sentence


def test_layers_to_leave_in_float_are_those_slower_than_in_float() -> None:
    reference = OpProfile((OpTime("a", "Conv", "float", 1.0), OpTime("b", "Conv", "float", 1.0)))
    candidate = OpProfile((OpTime("a", "QLinearConv", "integer", 0.5), OpTime("b", "QLinearConv", "integer", 2.0)))
    assert slower_in_integer(candidate, reference) == ("b",)
    assert speed_verdict(comparison(1.2, 1.1, 1.3), CPU, candidate, reference).leave_in_float == ("b",)
