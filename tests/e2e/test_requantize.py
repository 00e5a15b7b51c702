"""What onnxruntime's own quantizer wrote: inspected, and quantized anew for both formats."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime import quantization

from edgeq.cli.inspect import read
from edgeq.graph.passes.pairs_to_clips import pairs_to_clips
from edgeq.graph.sources import load_model

from . import models
from .conftest import Project, Run


class _Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, x: np.ndarray) -> None:
        self.feed = iter([{"x": each[None]} for each in x])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feed, None)


def _quantize(project: Project, form: str) -> Path:
    target = project.folder / "quantized.onnx"
    with np.load(project.data) as data:
        samples = _Samples(data["x"])
    quantization.quantize_static(
        project.model, target, samples, quant_format=quantization.QuantFormat[form], per_channel=form == "QDQ",
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
    )  # fmt: skip
    return target


@pytest.mark.filterwarnings("ignore")
def test_a_qdq_file_is_inspected_and_quantized_anew(edgeq: Run, project: Project) -> None:
    quantized = _quantize(project, "QDQ")
    found = read(quantized)
    assert found.integer_share == 1.0
    assert sum(grid.constant and grid.scales > 1 for grid in found.grids) >= 2
    result = edgeq(*project.arguments(model=quantized), "--no-diagnose")
    assert result.code in (0, 3), result.err
    for name in ("model.onnx", "model.tflite"):
        again = read(project.output / name)
        assert again.integer_share == 1.0
        assert again.macs == found.macs
    with np.load(project.evaluation) as data:
        x = data["x"]
    first, second = (
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0].argmax(1)
        for path in (quantized, project.output / "model.onnx")
    )
    assert np.mean(first == second) > 0.9


@pytest.mark.filterwarnings("ignore")
def test_a_file_of_integer_ops_is_inspected_and_refused_with_the_reason(edgeq: Run, project: Project) -> None:
    quantized = _quantize(project, "QOperator")
    assert read(quantized).integer_share == 1.0
    result = edgeq(*project.arguments(model=quantized), "--no-diagnose")
    assert result.code == 2
    assert "QLinearConv" in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_scales_that_do_not_fit_their_codes(edgeq: Run, project: Project) -> None:
    model = models.network()
    constants = {"q": np.ones((8, 3, 3, 3), np.int8), "s": np.ones(8, np.float32)}
    model.graph.initializer.extend([onnx.numpy_helper.from_array(array, key) for key, array in constants.items()])
    model.graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", ["q", "s"], ["wq"], name="dq", axis=9))
    model.graph.node[1].input[1] = "wq"
    onnx.save(model, project.model)
    result = edgeq(*project.arguments())
    assert result.code == 2
    assert "node 'dq' (DequantizeLinear) cannot be computed" in result.err


def test_a_pair_keeps_what_it_saturates(project: Project) -> None:
    # Nothing but a pair whose grid begins at zero is left of the ReLU.
    model = models.network()
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    target, position = relu.output[0], list(model.graph.node).index(relu)
    del model.graph.node[position]
    model.graph.initializer.extend(
        [onnx.numpy_helper.from_array(np.float32(0.02), "s"), onnx.numpy_helper.from_array(np.uint8(0), "z")]
    )
    pair = [
        onnx.helper.make_node("QuantizeLinear", ["c1", "s", "z"], ["q"], name="q"),
        onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], [target], name="dq"),
    ]
    for node in reversed(pair):
        model.graph.node.insert(position, node)
    onnx.save(model, project.model)
    opened = pairs_to_clips(load_model(project.model))
    assert [node.op_type for node in opened.nodes][:2] == ["Conv", "Clip"]
    low, high = (float(opened.constant(value)) for value in opened.nodes[1].inputs[1:])  # type: ignore[arg-type]
    assert (low, high) == (0.0, pytest.approx(255 * 0.02))
