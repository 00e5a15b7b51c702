from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeq.measurement import (
    DeviceInfo,
    Evaluation,
    Interval,
    Latency,
    LatencyComparison,
    Measurement,
    Parity,
)
from edgeq.release.release import (
    Artifact,
    Delivery,
    EvaluationData,
    Layer,
    OpTime,
    Picture,
    Recovery,
    RecoveryPoint,
    Release,
    Slices,
)

CLASSES = ("cat", "dog", "ship", "truck")


def measurement(
    profile: str = "cpu-onnxruntime",
    artifact: str = "model.onnx",
    samples: int = 2000,
    lost: int = 6,
    gained: int = 4,
    **changes: Any,
) -> Measurement:
    """A device on which the float model is right on 90 % of the samples and the deployed one loses and gains some."""
    labels = np.arange(samples) % len(CLASSES)
    float_decisions = np.where(np.arange(samples) % 10 == 9, (labels + 1) % len(CLASSES), labels)
    deployed = float_decisions.copy()
    right, wrong = np.flatnonzero(float_decisions == labels), np.flatnonzero(float_decisions != labels)
    deployed[right[:lost]] = (labels[right[:lost]] + 1) % len(CLASSES)
    deployed[wrong[:gained]] = labels[wrong[:gained]]
    changed = int((deployed != float_decisions).sum())

    def evaluation(decisions: np.ndarray) -> Evaluation:
        return Evaluation("top1", (decisions == labels).astype(np.float64), decisions)

    base = Measurement(
        device=DeviceInfo(profile, "onnxruntime", "1.31.0", "x86_64", "x86-64", ("avx2", "avx512_vnni"), 1, 8 << 30),
        artifact=artifact,
        float_on_target=evaluation(float_decisions),
        simulated=evaluation(deployed),
        deployed=evaluation(deployed),
        agreement=Interval(1 - changed / samples, 0.98, 1.0),
        parity=Parity(samples * 4, 13, {0: samples * 4 - 13, 1: 13}, 1.0),
        latency=LatencyComparison(
            Latency(3.2, 3.5, 200, 41.0, 90_000_000),
            Latency(1.6, 1.8, 200, 33.0, 60_000_000),
            Interval(0.5, 0.48, 0.52),
        ),
        size_bytes=290_000,
        float_size_bytes=1_100_000,
        integer_mac_share=1.0,
    )
    return replace(base, **changes)


def release(*measurements: Measurement, **changes: Any) -> Release:
    """A whole release around the measurements, one file for each."""
    found = measurements or (measurement(),)
    samples = found[0].float_on_target.scores.size
    base = Release(
        model="resnet20",
        bits="w8a8",
        options={"bits": "w8a8", "method": "rtn", "seed": 0, "observer": "mse"},
        versions={"edgeq": "0.1.0", "onnxruntime": "1.31.0"},
        command="edgeq convert resnet20.onnx --data calibration.npz --eval test.npz --bits w8a8",
        devices=tuple(m.device.profile for m in found),
        artifacts=tuple(Artifact(name, "ab" * 32, 290_000) for name in dict.fromkeys(m.artifact for m in found)),
        evaluation=EvaluationData("cd" * 32, samples, (Slices("class", CLASSES, np.arange(samples) % len(CLASSES)),)),
        measurements=found,
        deliveries=tuple(Delivery(m.artifact, "integer share of MACs", "100 %", "100 %", True) for m in found),
        layers=(
            Layer("conv1", "Conv", "w8a8", True, "conv1", "int8 kernels", 442_368, 448, 38.2, 0.61, 0.02, 4, 0, 0.11),
            Layer("fc", "Gemm", "w8a8", True, "fc", "int8 kernels", 640, 650, 41.0),
            Layer("softmax", "Softmax", "f", False, "", "asked for by --float"),
        ),
        op_times=(OpTime(found[0].device.profile, "QLinearConv", 1.1, 20, "integer"),),
        diagnosis={"verdict": "inside", "D": 0.01, "A": 0.004, "layers": [], "remedy": "none is needed"},
        quantization={
            "trials": [
                {"method": "nearest", "loss": 0.02, "kept": False},
                {"method": "gptq", "loss": 0.004, "kept": True},
            ],
            "activations": 0.001,
            "reason": "as good as float",
        },
        doctor=(
            {"kind": "few samples", "where": "conv1_out", "measured": 0.3, "limit": 0.1, "advice": "calibrate on more"},
        ),
        recovery=Recovery("qat", (RecoveryPoint(0, 0.5, 0.81), RecoveryPoint(10, 0.2, 0.88)), True, "better held out"),
        pictures=(Picture("Path", "Loss along the path", "<svg xmlns='http://www.w3.org/2000/svg'/>"),),
        notes=("128 calibration samples suffice",),
    )
    return replace(base, **changes)


@pytest.fixture(scope="session")
def make_measurement() -> Callable[..., Measurement]:
    return measurement


@pytest.fixture(scope="session")
def make_release() -> Callable[..., Release]:
    return release
