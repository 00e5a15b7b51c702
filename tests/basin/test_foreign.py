"""Quantized files of any make against their float model: names matched, weights read back exactly, faults refused."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from edgeq.basin.divergence import altitude, refer
from edgeq.basin.foreign import read_foreign
from edgeq.errors import ModelError
from edgeq.exporters.onnx import export
from edgeq.graph.sources.load import load_model

from . import demo

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.left = iter([{name: x.numpy()} for (x,) in demo.batches("train", 0, 64, 1)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)


def _peers(folder: Path, layout: QuantFormat, per_channel: bool) -> Path:
    source, target = folder / "float.onnx", folder / "quantized.onnx"
    source.write_bytes(export(demo.graph(), None))
    name = onnx.load(source).graph.input[0].name
    quantize_static(
        source, target, _Reader(name), quant_format=layout, per_channel=per_channel, weight_type=QuantType.QInt8
    )
    return target


@pytest.mark.parametrize("layout", [QuantFormat.QDQ, QuantFormat.QOperator], ids=["qdq", "qoperator"])
@pytest.mark.parametrize("per_channel", [True, False], ids=["channel", "tensor"])
def test_onnxruntimes_own_files_are_read_back(tmp_path: Path, layout: QuantFormat, per_channel: bool) -> None:
    path = _peers(tmp_path, layout, per_channel)
    found = read_foreign(demo.graph(), load_model(path))
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    landscape = found.landscape
    assert found.unmatched == ()
    for layer in landscape.layers:
        codes = (landscape.deployed[layer.weight] / layer.step).round().numpy()
        kept = stored[f"{layer.weight}_quantized"].astype(np.float32)
        assert np.array_equal(codes.ravel(), kept.reshape(codes.shape).ravel())
    (x,) = demo.batches("evaluation", 0, 64)[0]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    with torch.no_grad():
        whole = landscape.run(landscape.deployed, (x,), 1.0)[0].numpy()
    # A float kernel may round one activation to the neighbouring code; decisions stay.
    assert (whole.argmax(1) == expected.argmax(1)).mean() >= 0.98


def test_our_own_file_has_the_height_of_its_plan(tmp_path: Path) -> None:
    from edgeq.basin.simulated import landscape_of

    path = tmp_path / "ours.onnx"
    path.write_bytes(export(demo.graph(), demo.plan("w3a8")))
    found = read_foreign(demo.graph(), load_model(path)).landscape
    ours, _ = landscape_of(demo.graph(), demo.plan("w3a8"))
    reference = refer(ours, demo.batches("evaluation", 0, 128))
    a, b = (float(altitude(s, s.deployed, reference, 1.0)[0].mean()) for s in (found, ours))
    assert a == pytest.approx(b, rel=0.02)
    # Codes of 3 bits are recognized in their int8 storage.
    assert {layer.bits for layer in found.layers} == {3}


def test_weights_are_matched_by_direction_where_all_names_were_changed(tmp_path: Path) -> None:
    path = _peers(tmp_path, QuantFormat.QDQ, True)
    model = onnx.load(path)
    names = {name: f"renamed_{i}" for i, name in enumerate({t.name for t in model.graph.initializer})}
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    for index, node in enumerate(model.graph.node):
        node.name = f"node_{index}"
        node.input[:] = [names.get(value, value) for value in node.input]
    onnx.save(model, path)
    found = read_foreign(demo.graph(), load_model(path))
    assert found.unmatched == ()
    for layer in found.landscape.layers:
        q, w0 = found.landscape.deployed[layer.weight], found.landscape.origin[layer.weight]
        assert float((q - w0).norm() / w0.norm()) < 0.02


def test_a_file_that_is_not_this_models_quantization_is_refused(tmp_path: Path) -> None:
    path = _peers(tmp_path, QuantFormat.QDQ, True)
    model = onnx.load(path)
    generator = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.int8 and array.ndim > 1:
            noise = generator.integers(-127, 128, array.shape).astype(np.int8)
            tensor.CopyFrom(numpy_helper.from_array(noise, tensor.name))
    onnx.save(model, path)
    with pytest.raises(ModelError, match="no quantized weight of the candidate matches"):
        read_foreign(demo.graph(), load_model(path))


def test_the_float_model_itself_is_no_candidate() -> None:
    with pytest.raises(ModelError, match="no quantized weight"):
        read_foreign(demo.graph(), demo.graph())
