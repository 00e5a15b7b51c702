"""Models that another tool quantized run as they are: QDQ and integer ops of ONNX Runtime's own quantizer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from onnxruntime import quantization

from edgeq.graph.execute import to_torch
from edgeq.graph.sources import load_model


def _network(path: Path) -> None:
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((random.standard_normal(shape) * 0.3).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b1"], ["c2"], pads=[1, 1, 1, 1], group=4),
        helper.make_node("Add", ["c2", "r1"], ["s"]),
        helper.make_node("MaxPool", ["s"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["l"], transB=1),
        helper.make_node("Sigmoid", ["l"], ["y"]),
    ]
    weights = [weight("w1", 4, 3, 3, 3), weight("b1", 4), weight("w2", 4, 1, 3, 3), weight("w3", 5, 4), weight("b3", 5)]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3, 8, 8])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 5])
    graph = helper.make_graph(nodes, "network", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


class _Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        random = np.random.default_rng(1)
        self.feed: Iterator[dict[str, Any]] = iter(
            [{"x": random.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(8)]
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feed, None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_runs_as_onnx_runtime_does(form: str, per_channel: bool, tmp_path: Path) -> None:
    _network(tmp_path / "float.onnx")
    quantization.quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "integer.onnx",
        _Samples(),
        quant_format=quantization.QuantFormat[form],
        per_channel=per_channel,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(tmp_path / "integer.onnx", options)
    x = np.random.default_rng(2).standard_normal((4, 3, 8, 8)).astype(np.float32)
    (expected,) = session.run(None, {"x": x})
    graph = load_model(tmp_path / "integer.onnx")
    assert any("Quantize" in node.op_type or "QLinear" in node.op_type for node in graph.nodes)
    with torch.no_grad():
        result = to_torch(graph)(torch.from_numpy(x))
    # A rounding tie may fall apart inside and move the output by a step of its 8-bit grid, 1 / 256 at most.
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1 / 256)
